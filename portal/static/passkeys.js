// Lets a browser make or use a passkey for a form: <form data-passkey="create|get" data-options="{…}"> with a hidden
// field `credential`. What is marked data-needs-passkeys is hidden until it is known that the browser can.
"use strict";

const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const toText = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function ask(kind, options) {
  options.challenge = toBytes(options.challenge);
  for (const one of [...(options.excludeCredentials || []), ...(options.allowCredentials || [])]) {
    one.id = toBytes(one.id);
  }
  if (kind === "get") return navigator.credentials.get({ publicKey: options });
  options.user.id = toBytes(options.user.id);
  return navigator.credentials.create({ publicKey: options });
}

function written(made) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (made.response[name]) response[name] = toText(made.response[name]);
  }
  return JSON.stringify({ id: made.id, rawId: toText(made.rawId), type: made.type, response });
}

if (window.PublicKeyCredential) {
  for (const part of document.querySelectorAll("[data-needs-passkeys]")) part.hidden = false;
  for (const part of document.querySelectorAll("[data-lacks-passkeys]")) part.hidden = true;
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    if (form.elements.credential.value) return;
    event.preventDefault();
    const note = form.querySelector("[role=status]");
    note.textContent = "Your browser asks you now.";
    try {
      form.elements.credential.value = written(await ask(form.dataset.passkey, JSON.parse(form.dataset.options)));
      form.submit();
    } catch (error) {
      note.textContent = error.name === "InvalidStateError"
        ? "This device has a passkey for your account already."
        : "Your browser made no passkey available. Try again, or choose another way.";
    }
  });
}
