// Shows what a model writes as it comes: the form is sent to where its answer is a stream, and what cannot be a stream
// is a page, which takes the place of this one. Without this script the form is sent as it is.
"use strict";

const at = (id) => document.getElementById(id);
let running = null;

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n\n");
    rest = whole.pop();
    for (const line of whole.join("\n").split("\n")) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

function made(name, words, into) {
  const part = document.createElement(name);
  part.textContent = words;
  into.append(part);
  return part;
}

// A refusal says why, and for each reason what to do.
function refuse(error) {
  const place = at("refused");
  made("p", error.message, place).setAttribute("role", "alert");
  for (const reason of error.reasons.filter((one) => one.blocks && one.remedy)) {
    const remedy = made("p", "", place);
    if (reason.url) made("a", reason.remedy, remedy).href = reason.url;
    else remedy.textContent = reason.remedy;
  }
  place.hidden = false;
}

function begin(form) {
  for (const id of ["refused", "given", "written"]) at(id).textContent = "";
  for (const id of ["refused", "answer", "counts"]) at(id).hidden = true;
  at("given").textContent = form.elements.prompt.value;
  at("result").hidden = false;
  turn(form, true, "The model is writing…");
}

function turn(form, busy, words) {
  const submit = form.querySelector("[type=submit]");
  const focused = form.contains(document.activeElement) && document.activeElement.matches("button");
  form.setAttribute("aria-busy", String(busy));
  at("stop").hidden = !busy;
  submit.hidden = busy;
  if (focused) (busy ? at("stop") : submit).focus();
  at("state").textContent = words;
}

// Shows the events of a stream, and returns what to say at its end.
async function show(answer) {
  at("report").href = `/report?about=${encodeURIComponent(answer.headers.get("X-Request-Id"))}`;
  at("answer").hidden = false;
  for await (const event of events(answer.body)) {
    if (event === "[DONE]") return "The answer is whole.";
    const { error, choices, usage } = JSON.parse(event);
    if (error) {
      refuse(error);
      return "The answer was cut off.";
    }
    if (choices.length) at("written").append(choices[0].text);
    if (usage) {
      at("prompt-tokens").textContent = usage.prompt_tokens.toLocaleString("en");
      at("answer-tokens").textContent = usage.completion_tokens.toLocaleString("en");
      at("counts").hidden = false;
    }
  }
  throw new TypeError("the stream ended without its last event");
}

async function page(address, options) {
  const answer = await fetch(address, options);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

async function ask(form) {
  running = new AbortController();
  begin(form);
  let words = "";
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.dataset.stream, { method: "POST", body, signal: running.signal });
    const type = answer.headers.get("Content-Type") || "";
    if (type.startsWith("text/html")) {
      const other = new DOMParser().parseFromString(await answer.text(), "text/html");
      running = null;
      at("main").replaceWith(other.getElementById("main"));
      at("main").focus();
      listen();
      return;
    }
    if (answer.ok) words = await show(answer);
    else refuse(type.includes("json") ? (await answer.json()).error : { message: await answer.text(), reasons: [] });
  } catch (error) {
    if (error.name === "AbortError") words = "You stopped it. What was written until then counts.";
    else refuse({ message: "The connection broke off. Send it again in a moment.", reasons: [] });
  }
  running = null;
  turn(form, false, words);
  const now = await page(location.pathname).catch(() => null);
  const today = now && now.getElementById("today");
  if (today) at("today").replaceWith(today);
}

function listen() {
  const form = at("play");
  if (!form) return;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!running) ask(form);
  });
  form.addEventListener("input", () => {
    const bytes = new TextEncoder().encode(form.elements.prompt.value).length;
    const most = Math.floor(bytes / form.dataset.bytesPerToken) + 1 + Number(form.elements.max_tokens.value);
    at("estimate").textContent = most.toLocaleString("en");
  });
  at("stop").addEventListener("click", () => running.abort());
}

listen();
