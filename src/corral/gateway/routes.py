"""The paths that the gateway answers; pure data.

What is forwarded is named one by one. An engine has more below /v1 than a client should reach: vLLM loads and unloads
adapters there.
"""

from typing import Final

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"

# POST, a JSON object with `model`, sent on to that model's engine under the same path. Whether an engine knows the path
# is the engine's to say.
GENERATING: Final = frozenset((CHAT, COMPLETIONS, RESPONSES, MESSAGES, "/v1/messages/count_tokens"))
FORWARDED: Final = GENERATING | {EMBEDDINGS, "/v1/rerank", "/v1/score", "/v1/classify", "/v1/pooling"}
# An engine may keep what it answers there, unless the body says "store": false.
STORING: Final = frozenset((RESPONSES,))

# Streams that say how many tokens they had only when `stream_options` asks for it.
USAGE_ON_REQUEST: Final = frozenset((CHAT, COMPLETIONS))

MODELS: Final = "/v1/models"
HEALTH: Final = "/healthz"
READY: Final = "/readyz"
METRICS: Final = "/metrics"
API: Final = "/api"  # all below it is the admin API's
READ: Final = frozenset((MODELS, HEALTH, READY, METRICS))

GET: Final = ("GET", "HEAD", "OPTIONS")
POST: Final = ("POST", "OPTIONS")
