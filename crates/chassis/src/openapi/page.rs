//! The description as one HTML page: every call with its parameters, body and replies, and every schema. Written by
//! the server, so it needs no script and no asset.

use std::fmt::Write;

use serde_json::Value;

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1.5rem}
h1{margin:0}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
section{margin:1.2rem 0;padding:.8rem 1rem;border:1px solid var(--line);border-radius:.5rem}
section>h3{margin:0;font:600 1rem ui-monospace,monospace}
.method{display:inline-block;min-width:4.5rem}
code{font:.92em ui-monospace,monospace;background:var(--soft);padding:0 .25em;border-radius:.25em}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-top:1px solid var(--line)}
caption{text-align:left;font-weight:600;padding-top:.5rem}
nav a{display:block;font-family:ui-monospace,monospace;text-decoration:none}
";

/// The whole page.
pub(super) fn render(document: &Value) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    let title = text(&document["info"]["title"]);
    page.raw("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    page.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    page.text(title);
    page.raw("</title><style>");
    page.raw(STYLE);
    page.raw("</style><h1>");
    page.text(title);
    page.raw("</h1><p>");
    page.text(text(&document["info"]["version"]));
    page.raw(" · <a href=\"openapi.json\">OpenAPI document</a></p><p>");
    page.text(text(&document["info"]["description"]));
    page.raw("</p><h2>Calls</h2><nav>");
    let calls = calls(document);
    for (path, method, _) in &calls {
        page.link(&anchor(method, path), &format!("{} {path}", method.to_uppercase()));
    }
    page.raw("</nav>");
    for (path, method, call) in &calls {
        page.call(path, method, call);
    }
    page.raw("<h2>Schemas</h2>");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        page.schema(name, schema);
    }
    page.raw("</html>");
    page.0
}

fn calls(document: &Value) -> Vec<(&str, &str, &Value)> {
    const METHODS: [&str; 7] = ["get", "post", "put", "delete", "patch", "head", "options"];
    entries(&document["paths"])
        .flat_map(|(path, item)| METHODS.iter().filter_map(move |m| Some((path, *m, item.get(m)?))))
        .collect()
}

struct Page(String);

impl Page {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '"' => self.raw("&quot;"),
                '\'' => self.raw("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    fn code(&mut self, text: &str) {
        self.raw("<code>");
        self.text(text);
        self.raw("</code>");
    }

    fn link(&mut self, anchor: &str, label: &str) {
        self.raw("<a href=\"#");
        self.text(anchor);
        self.raw("\">");
        self.text(label);
        self.raw("</a>");
    }

    fn call(&mut self, path: &str, method: &str, call: &Value) {
        self.raw("<section id=\"");
        self.text(&anchor(method, path));
        self.raw("\"><h3><span class=\"method\">");
        self.text(&method.to_uppercase());
        self.raw("</span>");
        self.text(path);
        self.raw("</h3>");
        for part in ["summary", "description"] {
            if let Some(said) = call[part].as_str() {
                self.raw("<p>");
                self.text(said);
                self.raw("</p>");
            }
        }
        let parameters = call["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.table("Parameters", parameters.iter(), |page, parameter| {
            page.cell(|page| page.code(text(&parameter["name"])));
            page.cell(|page| page.text(text(&parameter["in"])));
            page.cell(|page| page.kind(&parameter["schema"]));
            let required = parameter["required"].as_bool() == Some(true);
            page.cell(|page| page.text(if required { "required" } else { "optional" }));
            page.cell(|page| page.text(text(&parameter["description"])));
        });
        self.table("Body", entries(&call["requestBody"]["content"]), |page, (media, content)| {
            page.cell(|page| page.code(media));
            page.cell(|page| page.kind(&content["schema"]));
        });
        self.table("Replies", entries(&call["responses"]), |page, (status, reply)| {
            page.cell(|page| page.code(status));
            page.cell(|page| {
                entries(&reply["content"]).for_each(|(_, content)| page.kind(&content["schema"]));
            });
            page.cell(|page| page.text(text(&reply["description"])));
        });
        self.raw("</section>");
    }

    fn schema(&mut self, name: &str, schema: &Value) {
        self.raw("<section id=\"");
        self.text(&anchor("schema", name));
        self.raw("\"><h3>");
        self.text(name);
        self.raw("</h3><p>");
        self.text(text(&schema["description"]));
        self.raw("</p>");
        if schema["properties"].is_null() {
            self.raw("<p>");
            self.kind(schema);
            self.raw("</p>");
        }
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.table("Members", entries(&schema["properties"]), |page, (member, property)| {
            page.cell(|page| page.code(member));
            page.cell(|page| page.kind(property));
            let is_required = required.iter().any(|r| r == member);
            page.cell(|page| page.text(if is_required { "required" } else { "optional" }));
            page.cell(|page| page.text(text(&property["description"])));
        });
        self.raw("</section>");
    }

    /// A schema in a few words: a link to a named one, or its type and bounds.
    fn kind(&mut self, schema: &Value) {
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
            return self.link(&anchor("schema", name), name);
        }
        for (word, joined) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
            if let Some(options) = schema[word].as_array() {
                for (index, option) in options.iter().enumerate() {
                    self.text(if index == 0 { "" } else { joined });
                    self.kind(option);
                }
                return;
            }
        }
        if let Some(values) = schema["enum"].as_array() {
            let values: Vec<_> = values.iter().map(ToString::to_string).collect();
            return self.text(&values.join(" | "));
        }
        match &schema["type"] {
            Value::String(kind) => self.text(kind),
            Value::Array(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(text).collect();
                self.text(&kinds.join(" or "));
            }
            _ => self.text("any"),
        }
        if !schema["items"].is_null() {
            self.text(" of ");
            self.kind(&schema["items"]);
        }
        for bound in [
            "format",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "pattern",
            "default",
        ] {
            match &schema[bound] {
                Value::Null => {}
                Value::String(value) => self.text(&format!(", {bound} {value}")),
                value => self.text(&format!(", {bound} {value}")),
            }
        }
    }

    fn cell(&mut self, content: impl FnOnce(&mut Self)) {
        self.raw("<td>");
        content(self);
        self.raw("</td>");
    }

    fn table<T>(&mut self, caption: &str, rows: impl Iterator<Item = T>, row: impl Fn(&mut Self, T)) {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "<table><caption>{caption}</caption>");
        for item in rows {
            self.raw("<tr>");
            row(self, item);
            self.raw("</tr>");
        }
        self.raw("</table>");
    }
}

fn anchor(kind: &str, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("{kind}-{}", name.chars().map(plain).collect::<String>())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "info": {"title": "Orders <&>", "version": "1", "description": "\"quoted\""},
            "paths": {"/v1/orders/{id}": {"get": {
                "summary": "One order",
                "parameters": [{"name": "id", "in": "path", "required": true,
                                "schema": {"type": "string", "format": "uuid"}}],
                "responses": {"200": {"description": "It.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}}
            }}},
            "components": {"schemas": {"Order": {"required": ["lines"], "properties": {
                "lines": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                "status": {"enum": ["reserved", "confirmed"]}
            }}}}
        })
    }

    #[test]
    fn calls_and_schemas_are_all_there_and_linked() {
        let page = render(&document());
        for part in [
            "/v1/orders/{id}",
            "One order",
            "string, format uuid",
            "<a href=\"#schema-Order\">Order</a>",
            "id=\"schema-Order\"",
            "array of integer, minimum 1",
            "&quot;reserved&quot; | &quot;confirmed&quot;",
        ] {
            assert!(page.contains(part), "{part} is missing from {page}");
        }
    }

    #[test]
    fn text_cannot_become_markup_and_nothing_is_fetched() {
        let page = render(&document());
        assert!(page.contains("Orders &lt;&amp;&gt;") && !page.contains("Orders <&>"));
        for fetch in ["<script", "<link", "<img", "src=", "@import", "url(", "http://", "https://"] {
            assert!(!page.contains(fetch), "{fetch}");
        }
    }
}
