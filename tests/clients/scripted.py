"""An engine that answers in OpenAI's forms to every client; the last word of a prompt says how it behaves."""

import base64
import json
import struct

HEAD = {"id": "c1", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
WORDS = ["Hello", ", ", "wörld"]
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
PERSON = '{"name": "Ada", "age": 36}'
LOGPROB = {
    "token": "Hello",
    "bytes": [72],
    "logprob": -0.5,
    "top_logprobs": [{"token": "Hi", "bytes": [72], "logprob": -1.5}],
}
VECTORS = [[0.5, -1.0, 0.25], [1.0, 2.0, 3.0]]


async def plays(call):
    """Answer a request as its path and its body ask."""
    body = json.loads(call.body)
    match call.path:
        case "/v1/embeddings":
            await call.json(200, embeddings(body))
        case "/v1/completions":
            choice = {"index": 0, "text": "Hello", "finish_reason": "length", "logprobs": None}
            await call.json(200, {**HEAD, "object": "text_completion", "choices": [choice], "usage": USAGE})
        case "/v1/responses":
            await call.json(200, response())
        case "/v1/rerank":
            await call.json(200, {"results": [{"index": 1, "relevance_score": 0.9}]})
        case _:
            await chats(call, body)


async def chats(call, body):
    said = body["messages"][-1]["content"]
    match said.split()[-1] if isinstance(said, str) and said else "":
        case "stall":
            await call.gone.wait()
        case "stall-in-stream":
            await call.stream()
            await call.chunk(event({"role": "assistant", "content": "Hello"}))
            await call.gone.wait()
        case "die-in-stream":
            await call.stream()
            await call.chunk(event({"role": "assistant", "content": "Hello"}))
            call.die()
        case "die":
            call.die()
        case "refuse":
            await call.json(
                400, {"error": {"message": "bad top_p", "type": "BadRequestError", "param": "top_p", "code": 400}}
            )
        case "break":
            await call.json(500, {"error": {"message": "out of cheese", "code": 500}})
        case _ if body.get("stream"):
            await streams(call, body)
        case _:
            await call.json(200, completion(body))


def message(body):
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        return {"role": "assistant", "content": None, "tool_calls": [{k: v for k, v in CALL.items() if k != "index"}]}
    content = PERSON if body.get("response_format") else "".join(WORDS)
    return {"role": "assistant", "content": content, "refusal": None}


def completion(body):
    told = message(body)
    choice = {"index": 0, "message": told, "finish_reason": "tool_calls" if "tool_calls" in told else "stop"}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [LOGPROB], "refusal": None}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE, "timings": {"predicted_ms": 1.5}}


def event(delta, finish_reason=None, **more):
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return (
        b"data: "
        + json.dumps({**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}).encode()
        + b"\n\n"
    )


async def streams(call, body):
    await call.stream()
    await call.chunk(event({"role": "assistant", "content": ""}))
    told = message(body)
    if "tool_calls" in told:
        function = CALL["function"]
        await call.chunk(event({"tool_calls": [{**CALL, "function": {**function, "arguments": ""}}]}))
        for part in (function["arguments"][:6], function["arguments"][6:]):
            await call.chunk(event({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
    else:
        content = told["content"]
        for part in WORDS if content == "".join(WORDS) else (content[:7], content[7:]):
            await call.chunk(event({"content": part}))
    await call.chunk(event({}, "tool_calls" if "tool_calls" in told else "stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        last = {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
        await call.chunk(b"data: " + json.dumps(last).encode() + b"\n\n")
    await call.chunk(b"data: [DONE]\n\n")
    await call.end()


def embeddings(body):
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    encode = packed if body.get("encoding_format") == "base64" else list
    data = [{"object": "embedding", "index": i, "embedding": encode(VECTORS[i])} for i in range(len(texts))]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}


def packed(vector):
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def response():
    text = {"type": "output_text", "text": "Hello", "annotations": []}
    said = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    fields = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m",
        "output": [said],
    }
    return {**fields, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
