"""What config.json's keys mean, family by family: layers by kind out of plain fields; knows no file and no tensor."""
