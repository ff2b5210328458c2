// Drive a server with OpenAI's client for JavaScript: drive_openai.mjs ENTRY CHAT_URL EMBEDDING_URL
import { pathToFileURL } from "node:url";

const [entry, chatUrl, embeddingUrl] = process.argv.slice(2);
const { default: OpenAI } = await import(pathToFileURL(entry));
const client = new OpenAI({ baseURL: `${chatUrl}/v1`, apiKey: "none", maxRetries: 0 });
const embedder = new OpenAI({ baseURL: `${embeddingUrl}/v1`, apiKey: "none", maxRetries: 0 });
const asked = {
  model: "fake",
  messages: [{ role: "user", content: "Hi" }],
  max_tokens: 6,
  temperature: 0,
};
const parameters = {
  type: "object",
  properties: { yes: { type: "boolean" } },
  required: ["yes"],
  additionalProperties: false,
};

const whole = await client.chat.completions.create(asked);
let streamed = "";
let usage = null;
const stream = await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
const called = await client.chat.completions.create({
  ...asked,
  max_tokens: 900,
  tools: [{ type: "function", function: { name: "ask", parameters } }],
  tool_choice: "required",
});
const scored = await client.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 2 });
const text = await client.completions.create({
  model: "fake",
  prompt: "Hi",
  max_tokens: 6,
  temperature: 0,
});
const response = await client.responses.create({
  model: "fake",
  input: "Hi",
  max_output_tokens: 6,
  temperature: 0,
});
const again = await client.responses.retrieve(response.id);
const next = await client.responses.create({
  model: "fake",
  input: "More",
  max_output_tokens: 6,
  temperature: 0,
  previous_response_id: response.id,
});
const events = [];
let deltas = "";
for await (const event of await client.responses.create({
  model: "fake",
  input: "Hi",
  max_output_tokens: 6,
  temperature: 0,
  stream: true,
})) {
  events.push(event.type);
  if (event.type === "response.output_text.delta") deltas += event.delta;
}
await client.responses.delete(response.id);
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const embedded = await embedder.embeddings.create({ model: "tiny", input: ["a", "b"] });
const floats = await embedder.embeddings.create({
  model: "tiny",
  input: "a",
  encoding_format: "float",
});
let refusal = {};
try {
  await client.chat.completions.create({ ...asked, temperature: -1 });
} catch (error) {
  refusal = { name: error.constructor.name, status: error.status, param: error.param };
}
const missing = [];
for (const ask of [
  () => client.moderations.create({ input: "Hi" }),
  () => client.audio.speech.create({ model: "fake", input: "Hi", voice: "alloy" }),
  () => client.images.generate({ model: "fake", prompt: "a banyan" }),
]) {
  try {
    await ask();
  } catch (error) {
    missing.push([error.constructor.name, error.status, error.message.includes("/v1/chat")]);
  }
}
let unheard = {};
try {
  const file = new File([new Uint8Array(44)], "a.wav");
  await client.audio.transcriptions.create({ model: "fake", file });
} catch (error) {
  unheard = { status: error.status, words: error.message };
}
let leaving = 0;
const controller = new AbortController();
const endless = await client.completions.create(
  { model: "fake", prompt: "a", max_tokens: 3000, stream: true, ignore_eos: true },
  { signal: controller.signal },
);
for await (const _ of endless) {
  leaving += 1;
  if (leaving === 3) controller.abort();
}

console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    usage: whole.usage.total_tokens,
    streamed,
    streamed_usage: usage.total_tokens,
    call: called.choices[0].message.tool_calls[0].function.name,
    arguments: JSON.parse(called.choices[0].message.tool_calls[0].function.arguments),
    logprobs: scored.choices[0].logprobs.content.length,
    text: text.choices[0].text,
    responded: response.output_text,
    again: again.output_text,
    next: next.previous_response_id === response.id && next.output_text.length > 0,
    events,
    deltas,
    models,
    model: (await client.models.retrieve("fake")).id,
    lengths: embedded.data.map((item) => item.embedding.length),
    float_matches: floats.data[0].embedding.every(
      (value, place) => Math.abs(value - embedded.data[0].embedding[place]) < 1e-6,
    ),
    refusal,
    missing,
    unheard,
    leaving,
  }),
);
