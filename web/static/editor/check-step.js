// A functional check: the request, and what must hold of its answer.
import { areaField, choiceField, pairs, textField, textList } from "./fields.js";
import { h } from "./view.js";

const METHODS = ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

export function checkFields(ctx, path, found) {
  const check = found && typeof found === "object" ? found : {};
  const expect = [...path, "expect"];
  const filled = (...names) => names.some((name) => check[name] !== undefined);
  const wants = (...names) => names.some((name) => check.expect?.[name] !== undefined);
  return h("div", { class: "stack", key: "check" },
    h("div", { class: "fields request" },
      choiceField(ctx, [...path, "method"], "Method", METHODS, { absent: "GET" }),
      textField(ctx, [...path, "url"], "Path or URL", { required: true, placeholder: "/orders/7" })),
    h("details", { key: "request", open: filled("headers", "body", "json") }, h("summary", null, "Headers and body of the request"),
      h("div", { class: "stack" },
        pairs(ctx, [...path, "headers"], "Headers", { item: "header", fresh: "accept" }),
        areaField(ctx, [...path, "body"], "Body", { mono: true }))),
    h("fieldset", { class: "rows", key: "expect" },
      h("legend", null, "The answer must have"),
      h("div", { class: "fields" },
        textField(ctx, [...expect, "status"], "Status", { type: "whole", placeholder: "2xx", hint: "200, or a class such as 2xx" }),
        textField(ctx, [...expect, "within"], "All of it within", { placeholder: "any time" })),
      textList(ctx, [...expect, "contains"], "Text in the body", { item: "text" }),
      h("details", { key: "more", open: wants("lacks", "json", "headers") }, h("summary", null, "More: JSON values, headers, text that must be absent"),
        h("div", { class: "stack" },
          pairs(ctx, [...expect, "json"], "Values in JSON", { item: "JSON value", type: "any", fresh: "/status", hint: "By JSON pointer: /items/0/name" }),
          pairs(ctx, [...expect, "headers"], "Headers", { item: "header", fresh: "content-type", hint: "* for any value" }),
          textList(ctx, [...expect, "lacks"], "Text that must not be in the body", { item: "text" })))));
}
