// The page to try the API: made from openapi.json in the browser. Nothing is stored, and nobody else is asked.
"use strict";

const METHODS = ["get", "post", "patch", "delete"];
const MAX_SHOWN = 200_000; // characters of one answer that are shown
let api = null;

// ---------------------------------------------------------------- making elements

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Text with `code` in it, in paragraphs.
function prose(text) {
  return (text || "").split(/\n\s*\n/).filter(Boolean).map((paragraph) => {
    const parts = paragraph.split(/(``.+?``|`.+?`)/s);
    return make("p", {}, ...parts.map((part) => (part.startsWith("`") ? make("code", {}, part.replaceAll("`", "")) : part)));
  });
}

function plain(text) { return text.replaceAll("`", ""); }

// An operation's name in words: `create_hold` is "create hold".
function nameOf(operation) { return operation.operationId.replaceAll("_", " "); }

// ---------------------------------------------------------------- schemas

function follow(schema) {
  let found = schema || {};
  for (let steps = 0; found.$ref && steps < 8; steps += 1) {
    found = found.$ref.slice(2).split("/").reduce((place, name) => place[name], api);
  }
  return found;
}

function kindOf(given) {
  const schema = follow(given);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.anyOf || schema.oneOf) return [...new Set((schema.anyOf || schema.oneOf).map(kindOf))].join(" | ");
  if (schema.type === "array") return `list of ${kindOf(schema.items)}`;
  if (given && given.$ref) return given.$ref.split("/").pop();
  return Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type || "anything";
}

function boundsOf(given) {
  const schema = follow(given);
  const single = (schema.anyOf || []).map(follow).filter((one) => one.type !== "null");
  if (schema.anyOf) return single.length ? boundsOf(single[0]) : "";
  const said = [];
  if (schema.description) said.push(schema.description.split("\n")[0]);
  if (schema.minimum !== undefined || schema.maximum !== undefined) said.push(`${schema.minimum ?? ""} to ${schema.maximum ?? ""}`);
  if (schema.maxLength !== undefined) said.push(`at most ${schema.maxLength} characters`);
  if (schema.maxItems !== undefined) said.push(`at most ${schema.maxItems} items`);
  if (schema.default !== undefined && schema.default !== null && schema.default !== "") said.push(`default ${JSON.stringify(schema.default)}`);
  return said.join("; ");
}

// The schemas of parts that have fields of their own.
function partsOf(given) {
  const schema = follow(given);
  if (schema.properties) return [schema];
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).flatMap(partsOf);
  if (schema.type === "array") return partsOf(schema.items);
  return [];
}

function fieldsOf(schema, depth = 0) {
  const required = new Set(schema.required || []);
  return make("ul", {}, ...Object.entries(schema.properties || {}).map(([name, field]) => {
    const parts = depth < 3 ? partsOf(field) : [];
    const bounds = boundsOf(field);
    return make("li", {},
      make("code", { class: required.has(name) ? "required" : "" }, name), " ",
      make("span", { class: "kind" }, kindOf(field)), bounds ? make("span", { class: "faint" }, ` — ${bounds}`) : null,
      ...parts.map((part) => make("details", {}, make("summary", {}, part.title || "fields"), fieldsOf(part, depth + 1))));
  }));
}

function schemaOf(given) {
  const parts = partsOf(given);
  if (!parts.length) return make("div", { class: "schema" }, make("span", { class: "kind" }, kindOf(given)));
  if (parts.length === 1) return make("div", { class: "schema" }, ...prose(parts[0].description), fieldsOf(parts[0]));
  return make("div", { class: "schema" }, make("p", {}, "One of these:"),
    ...parts.map((part) => make("details", {}, make("summary", {}, part.title || "fields"), ...prose(part.description), fieldsOf(part))));
}

// ---------------------------------------------------------------- one operation

function valueAt(id) { return document.getElementById(id).value; }
function newKey() { return `docs-${crypto.randomUUID ? crypto.randomUUID() : Date.now() + "-" + Math.random().toString(16).slice(2)}`; }

function parameterField(parameter, operation) {
  const id = `${operation.operationId}.${parameter.name}`;
  const schema = follow(parameter.schema);
  let first = parameter.example ?? (parameter.in === "path" ? (schema.examples || [""])[0] : "");
  if (parameter.name === "Idempotency-Key") first = newKey();
  const input = make("input", {
    id, value: String(first ?? ""), spellcheck: "false", autocomplete: "off", "aria-required": String(Boolean(parameter.required)),
  });
  if (parameter.in === "path" && parameter.name === "ledger") input.dataset.ledger = "yes";
  const about = [kindOf(parameter.schema), parameter.description || boundsOf(parameter.schema)].filter(Boolean).join(" — ");
  const row = [
    make("label", { for: id, class: parameter.required ? "required" : "" }, make("code", {}, parameter.name), " ", make("span", { class: "faint" }, parameter.in)),
    input,
    parameter.name === "Idempotency-Key"
      ? make("span", { class: "about" }, make("button", { type: "button", onclick: () => { input.value = newKey(); } }, "Another key"), " the same key repeats, another one asks anew")
      : make("span", { class: "about" }, about),
  ];
  return { parameter, input, row };
}

function requestOf(path, method, fields, textarea, type) {
  let where = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of fields) {
    const missing = parameter.required && input.value === "";
    input.setAttribute("aria-invalid", String(missing));
    if (missing) { input.focus(); throw new Error(`${parameter.name} is needed`); }
    if (parameter.in === "path") where = where.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value === "") continue;
    else if (parameter.in === "query") query.set(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  const token = valueAt("token").trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (textarea) headers["Content-Type"] = type;
  const asked = query.toString();
  const base = (api.servers?.[0]?.url || "/").replace(/\/$/, "");
  return { url: base + where + (asked ? `?${asked}` : ""), method: method.toUpperCase(), headers, body: textarea ? textarea.value : undefined };
}

function curlOf(request) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const lines = [`curl -X ${request.method} ${quote(new URL(request.url, location.href).href)}`];
  for (const [name, value] of Object.entries(request.headers)) {
    lines.push(`  -H ${quote(`${name}: ${name === "Authorization" ? "Bearer $TALLY_KEY" : value}`).replace("'Authorization: Bearer $TALLY_KEY'", '"Authorization: Bearer $TALLY_KEY"')}`);
  }
  if (request.body !== undefined) lines.push(`  -d ${quote(request.body)}`);
  return lines.join(" \\\n");
}

function pretty(text, type) {
  if (!/json/.test(type) || /ndjson/.test(type)) return text;
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

async function send(request, shown, stop) {
  const began = performance.now();
  const controller = new AbortController();
  stop.onclick = () => controller.abort();
  stop.hidden = false;
  const status = make("p", { role: "status" }, "Asking…");
  shown.replaceChildren(status);
  try {
    const answer = await fetch(request.url, { ...request, signal: controller.signal, credentials: "omit", cache: "no-store", redirect: "error" });
    const took = () => `${Math.round(performance.now() - began)} ms`;
    const line = make("span", { class: `status ${answer.ok ? "good" : "bad"}` }, `${answer.status} ${answer.statusText}`);
    status.replaceChildren(line, make("span", { class: "faint" }, ` ${took()}`));
    const headers = make("pre", {}, [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n"));
    const body = make("pre", { tabindex: "0", "aria-label": "Body of the answer" });
    shown.append(make("details", {}, make("summary", {}, "Headers"), headers), body);
    let text = "";
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      if (text.length > MAX_SHOWN) { text = text.slice(0, MAX_SHOWN) + "\n… and more"; controller.abort(); break; }
      body.textContent = text;
    }
    body.textContent = pretty(text, answer.headers.get("content-type") || "");
    status.replaceChildren(line, make("span", { class: "faint" }, ` ${took()}`));
  } catch (error) {
    if (error.name === "AbortError") status.append(" stopped");
    else status.replaceChildren(make("span", { class: "bad" }, `no answer: ${error.message}`));
  } finally {
    stop.hidden = true;
  }
}

function bodyField(operation) {
  const content = operation.requestBody && Object.entries(operation.requestBody.content)[0];
  if (!content) return null;
  const [type, media] = content;
  const example = media.example === undefined ? "{}" : typeof media.example === "string" ? media.example : JSON.stringify(media.example, null, 2);
  const textarea = make("textarea", { id: `${operation.operationId}.body`, spellcheck: "false", rows: String(Math.min(example.split("\n").length + 1, 18)) });
  textarea.value = example;
  return { type, media, textarea };
}

function answersOf(operation) {
  return make("ul", { class: "answers" }, ...Object.entries(operation.responses).map(([status, given]) => {
    const answer = follow(given);
    return make("li", {}, make("span", { class: `status ${status < 400 ? "good" : "bad"}` }, status), ` ${answer.description}`);
  }));
}

function fill(inside, path, method, operation) {
  const fields = (operation.parameters || []).map((parameter) => parameterField(parameter, operation));
  for (const { input } of fields) if (input.dataset.ledger) input.value = valueAt("ledger");
  const body = bodyField(operation);
  const shown = make("div", { "aria-live": "polite" });
  const stop = make("button", { type: "button", hidden: true }, "Stop");
  const curl = make("pre", { hidden: true });
  const tried = (act) => {
    try {
      const request = requestOf(path, method, fields, body?.textarea, body?.type);
      if (body && /^application\/json/.test(body.type)) { JSON.parse(request.body); }
      body?.textarea.setAttribute("aria-invalid", "false");
      act(request);
    } catch (error) {
      if (error instanceof SyntaxError) body.textarea.setAttribute("aria-invalid", "true");
      shown.replaceChildren(make("p", { role: "alert", class: "bad" }, error instanceof SyntaxError ? `the body is not JSON: ${error.message}` : error.message));
    }
  };
  const done = Object.entries(operation.responses).find(([status]) => status < 300);
  const answer = done && Object.values(follow(done[1]).content || {})[0];
  inside.append(...prose(operation.description));
  if (fields.length) inside.append(make("h4", {}, "Parameters"), make("div", { class: "parameters" }, ...fields.flatMap(({ row }) => row)));
  if (body) {
    inside.append(make("div", { class: "both" },
      make("div", {}, make("h4", {}, make("label", { for: body.textarea.id }, `Body (${body.type})`)), body.textarea),
      make("div", {}, make("h4", {}, "Its fields"), schemaOf(body.media.schema))));
  }
  inside.append(
    make("div", { class: "row" },
      make("button", { type: "button", class: "send", onclick: () => tried((request) => send(request, shown, stop)) }, "Send"),
      stop,
      make("button", { type: "button", onclick: () => tried((request) => { curl.hidden = false; curl.textContent = curlOf(request); }) }, "Show as curl")),
    curl, shown, make("h4", {}, "Answers"), answersOf(operation));
  if (answer && answer.schema) inside.append(make("details", {}, make("summary", {}, `Fields of the answer ${done[0]}`), schemaOf(answer.schema)));
}

function operationOf(path, method, operation) {
  const inside = make("div", { class: "inside" });
  const element = make("details", { class: "operation", id: operation.operationId },
    make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), make("span", { class: "path" }, path), make("span", {}, plain(operation.summary))),
    inside);
  element.addEventListener("toggle", () => { if (element.open && !inside.childElementCount) fill(inside, path, method, operation); });
  return element;
}

// ---------------------------------------------------------------- the page

function openNamed() {
  const element = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (element && element.matches("details.operation")) { element.open = true; element.scrollIntoView({ behavior: "instant" }); }
}

function build() {
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })));
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("about").append(...prose(api.info.description));
  const index = document.getElementById("index");
  const main = document.getElementById("operations");
  for (const { name } of api.tags || []) {
    const own = operations.filter(({ operation }) => (operation.tags || []).includes(name));
    if (!own.length) continue;
    const links = own.map(({ path, method, operation }) => {
      const link = make("li", {}, make("a", { href: `#${operation.operationId}`, title: plain(operation.summary) },
        make("span", { class: `short ${method}` }, method.toUpperCase()), nameOf(operation)));
      link.dataset.words = `${operation.summary} ${path} ${method} ${operation.operationId}`.toLowerCase();
      return link;
    });
    index.append(make("div", {}, make("h2", {}, name), make("ul", {}, ...links)));
    main.append(make("section", { "aria-label": name }, make("h2", {}, name),
      ...own.map(({ path, method, operation }) => operationOf(path, method, operation))));
  }
  document.getElementById("loading").remove();
}

function filter() {
  const wanted = valueAt("filter").toLowerCase().split(/\s+/).filter(Boolean);
  for (const group of document.querySelectorAll("#index > div")) {
    let some = false;
    for (const link of group.querySelectorAll("li")) {
      link.hidden = !wanted.every((word) => link.dataset.words.includes(word));
      some ||= !link.hidden;
    }
    group.hidden = !some;
  }
}

async function start() {
  document.getElementById("settings").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("filter").addEventListener("input", filter);
  document.getElementById("ledger").addEventListener("input", () => {
    for (const input of document.querySelectorAll("input[data-ledger]")) input.value = valueAt("ledger");
  });
  addEventListener("hashchange", openNamed);
  try {
    const answer = await fetch("openapi.json", { credentials: "omit" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    api = await answer.json();
    build();
    openNamed();
  } catch (error) {
    document.getElementById("loading").textContent = `openapi.json cannot be read: ${error.message}`;
  }
}

start();
