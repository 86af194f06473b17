// A form that may ask a browser for a small piece of work carries it in a hidden field; the answer goes into that field.
// Without this script, or where a browser keeps digests to secure pages, the form works as well and asks for more.
"use strict";

async function solve(work) {
  const encoder = new TextEncoder();
  for (let number = 0; number <= work.maxNumber; number += 1) {
    const bytes = await crypto.subtle.digest(work.algorithm, encoder.encode(work.salt + number));
    const hex = Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (hex === work.challenge) {
      const { algorithm, challenge, salt, signature } = work;
      return btoa(JSON.stringify({ algorithm, challenge, number, salt, signature }));
    }
  }
  return "";
}

for (const field of document.querySelectorAll("input[data-work]")) {
  if (globalThis.crypto && crypto.subtle) {
    const done = solve(JSON.parse(field.dataset.work)).then((answer) => {
      field.value = answer;
    });
    field.form.addEventListener("submit", async (event) => {
      if (!field.value) {
        event.preventDefault();
        await done.catch(() => {});
        field.form.submit();
      }
    });
  }
}
