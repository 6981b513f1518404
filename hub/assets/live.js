// What the page does where scripts are allowed; without them every link and
// form works as it is.
"use strict";

// Live parts: the server sends them whole, as they change.
for (const part of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(part.dataset.live);
  const show = (html) => {
    const active = document.activeElement;
    if ("keep" in part.dataset && part.contains(active) && active.matches("input")) return; // someone is choosing
    const chosen = new Set([...part.querySelectorAll("input:checked")].map((i) => i.value));
    const lines = part.querySelector(".lines");
    const following = !lines || lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
    const at = lines ? lines.scrollTop : 0;
    part.innerHTML = html;
    for (const i of part.querySelectorAll("input[type=checkbox]")) i.checked = chosen.has(i.value) || i.checked;
    const now = part.querySelector(".lines");
    if (now) now.scrollTop = following ? now.scrollHeight : at;
  };
  source.onmessage = (e) => show(e.data);
  source.addEventListener("end", (e) => {
    source.close();
    if ("reload" in part.dataset) location.reload(); // more than this part has changed
    else show(e.data);
  });
  source.addEventListener("gone", () => source.close());
}

for (const lines of document.querySelectorAll(".lines")) lines.scrollTop = lines.scrollHeight;

// Search while typing.
const form = document.getElementById("search");
if (form) {
  const into = document.getElementById(form.dataset.into);
  let timer, request;
  const search = async () => {
    const query = new URLSearchParams([...new FormData(form)].filter(([, v]) => v !== ""));
    request?.abort();
    request = new AbortController();
    history.replaceState(null, "", query.size ? "/?" + query : "/");
    query.set("part", "found");
    try {
      const answer = await fetch("/?" + query, { signal: request.signal });
      if (answer.ok && !answer.redirected) into.innerHTML = await answer.text();
      else location.reload();
    } catch (e) {
      if (e.name !== "AbortError") throw e;
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 120);
  });
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    clearTimeout(timer);
    search();
  });
}

// Commands can be copied.
if (navigator.clipboard) {
  for (const command of document.querySelectorAll("pre.command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    command.append(button);
  }
}
