// What OpenAI's JavaScript library makes of the server at BASE_URL: runs the test named on the command line.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY ?? "none", maxRetries: 0 });
const hello = [{ role: "user", content: "hello" }];
const please = (word) => [{ role: "user", content: `please ${word}` }];
const words = ["Hello", ", ", "wörld"];
const tools = [
  {
    type: "function",
    function: {
      name: "add",
      description: "Adds.",
      parameters: { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } } },
    },
  },
];
const chat = (more, options) => client.chat.completions.create({ model: "m", messages: hello, ...more }, options);

const tests = {
  async streams() {
    const chunks = [];
    for await (const chunk of await chat({ stream: true, stream_options: { include_usage: true } })) chunks.push(chunk);
    assert.deepEqual(chunks.map((c) => c.choices[0]?.delta.content).filter(Boolean), words);
    assert.equal(chunks.at(-1).usage.total_tokens, 5);
  },

  async runs_its_stream_helper() {
    const runner = client.chat.completions.stream({ model: "m", messages: hello });
    assert.equal(await runner.finalContent(), words.join(""));
  },

  async calls_tools() {
    const asked = await chat({ tools });
    const call = asked.choices[0].message.tool_calls[0];
    assert.deepEqual(JSON.parse(call.function.arguments), { a: 1, b: 2 });
    const turn = [...hello, asked.choices[0].message, { role: "tool", tool_call_id: call.id, content: "3" }];
    const answer = await chat({ tools, messages: turn });
    assert.equal(answer.choices[0].message.content, words.join(""));
    let parts = "";
    for await (const chunk of await chat({ tools, stream: true }))
      parts += chunk.choices[0]?.delta.tool_calls?.[0].function.arguments ?? "";
    assert.deepEqual(JSON.parse(parts), { a: 1, b: 2 });
  },

  async parses_structured_output() {
    const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } } };
    const format = { type: "json_schema", json_schema: { name: "person", strict: true, schema } };
    const answer = await client.chat.completions.parse({ model: "m", messages: hello, response_format: format });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { name: "Ada", age: 36 });
  },

  async embeds() {
    const vectors = [[0.5, -1, 0.25], [1, 2, 3]];
    for (const encoding_format of [undefined, "float"]) {
      const got = await client.embeddings.create({ model: "e", input: ["one", "two"], encoding_format });
      assert.deepEqual(got.data.map((item) => item.embedding), vectors);
    }
  },

  async lists_models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids, ["m", "e"]);
    assert.equal((await client.models.retrieve("m")).owned_by, "corral");
  },

  async completes_and_responds() {
    assert.equal((await client.completions.create({ model: "m", prompt: "x" })).choices[0].text, "Hello");
    assert.equal((await client.responses.create({ model: "m", input: "x", store: false })).output_text, "Hello");
  },

  async reads_raw_answers() {
    const { response, request_id } = await chat({}, { headers: { "X-Request-Id": "trace-7" } }).withResponse();
    assert.equal(response.headers.get("x-request-id"), "trace-7");
    assert.equal(request_id, "trace-7");
  },

  async knows_errors() {
    await assert.rejects(chat({ model: "other" }), OpenAI.NotFoundError);
    await assert.rejects(chat({ messages: please("refuse") }), OpenAI.BadRequestError);
    await assert.rejects(chat({ messages: please("break") }), OpenAI.InternalServerError);
    await assert.rejects(chat({ messages: please("die") }), (error) => error.code === "upstream_died");
    await assert.rejects(chat({ messages: please("x".repeat(1_000_000)) }), (error) => error.status === 413);
  },

  async raises_in_mid_stream() {
    const seen = [];
    await assert.rejects(async () => {
      for await (const chunk of await chat({ messages: please("die-in-stream"), stream: true })) seen.push(chunk);
    }, /before its answer was complete/);
    assert.equal(seen.length, 1);
  },

  async times_out() {
    await assert.rejects(chat({ messages: please("stall") }, { timeout: 300 }), OpenAI.APIConnectionTimeoutError);
  },

  async aborts() {
    const controller = new AbortController();
    const asked = chat({ messages: please("stall") }, { signal: controller.signal });
    setTimeout(() => controller.abort(), 300);
    await assert.rejects(asked, OpenAI.APIUserAbortError);
  },

  async leaves_a_stream() {
    const stream = await chat({ messages: please("stall-in-stream"), stream: true });
    for await (const chunk of stream) {
      assert.equal(chunk.choices[0].delta.content, "Hello");
      break;
    }
  },

  async repeats_when_told() {
    const began = Date.now();
    assert.ok((await chat({}, { maxRetries: 2 })).choices);
    assert.ok(Date.now() - began >= 1800);
  },
};

await tests[process.argv[2]]();
if (process.argv[3] === "stay") setInterval(() => {}, 1000); // what ends must be the request, not the process
console.log("done");
