"""What a person types; knows how things look, not how they are done."""
