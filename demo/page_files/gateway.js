// The gateway over HTTP, as any client sees it. Every failure is a GatewayError with its own words.

const ROOT = new URL("../../", import.meta.url); // the page lies at ROOT/demo/

export class GatewayError extends Error {
  constructor(message, { code = null, param = null, gone = false } = {}) {
    super(message);
    this.code = code;
    this.param = param;
    this.gone = gone; // nobody answered, so the same request may succeed later
  }
}

export const baseUrl = () => new URL(".", ROOT).href.replace(/\/$/, "");

export async function get(path, signal) {
  return checked(await reach(path, { signal }));
}

export async function post(path, body, signal) {
  return checked(await reach(path, request(body, signal)));
}

// Pieces of a chat's answer as they come: {text, finish, receipt}, each with what is new.
export async function* stream(body, signal) {
  const answer = await reach("v1/chat/completions", request({ ...body, stream: true }, signal));
  if (!answer.ok) await checked(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    let got;
    try {
      got = await reader.read();
    } catch (error) {
      throw unreachable(error);
    }
    if (got.done) throw new GatewayError("the gateway's stream broke off before its end; ask again", { gone: true });
    const lines = (kept + got.value).split("\n");
    kept = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw refusal(event.error);
      const choice = event.choices[0];
      yield {
        text: choice?.delta?.content ?? "",
        finish: choice?.finish_reason ?? null,
        receipt: event.steering?.receipt ?? null,
      };
    }
  }
}

export async function isThere() {
  try {
    return (await fetch(new URL("health", ROOT))).ok;
  } catch {
    return false;
  }
}

function request(body, signal) {
  const headers = { "content-type": "application/json" };
  return { method: "POST", headers, body: JSON.stringify(body), signal };
}

async function reach(path, options) {
  try {
    return await fetch(new URL(path, ROOT), options);
  } catch (error) {
    throw unreachable(error);
  }
}

function unreachable(error) {
  if (error.name === "AbortError") return error;
  return new GatewayError(`no answer from ${baseUrl()}; is \`sparsight serve\` running there?`, { gone: true });
}

async function checked(answer) {
  let body = null;
  try {
    body = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!answer.ok) {
    if (body?.error) throw refusal(body.error, answer.status === 502);
    throw new GatewayError(`the gateway answered HTTP ${answer.status} without a message`, { gone: answer.status === 502 });
  }
  if (body === null) throw new GatewayError("the gateway's answer is no JSON; is something else at its address?");
  return body;
}

function refusal(error, gone = false) {
  const { message = "the gateway gave no reason", code = null, param = null } = error;
  return new GatewayError(String(message), { code, param, gone });
}
