//! Hugging Face chat templates: Jinja as `transformers` sets it up, in minijinja.
use crate::Res;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

mod py_json;

const NAME: &str = "chat";

pub struct ChatTemplate {
    env: Environment<'static>,
    // After env, which borrows it: fields are dropped in this order.
    _source: Source,
}

/// Text on the heap that stays where it is until this is dropped.
struct Source(*mut str);

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw below, and dropped once.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl ChatTemplate {
    pub fn compile(source: &str) -> Res<ChatTemplate> {
        let mut env = Environment::new();
        // As transformers' ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, loopcontrols).
        let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        env.set_syntax(syntax);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.set_formatter(|out, state, value| match value.kind() {
            // Python's names, as Jinja2 prints them.
            ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
            ValueKind::None => Ok(out.write_str("None")?),
            _ => minijinja::escape_formatter(out, state, value),
        });
        env.add_filter("tojson", tojson);
        env.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        // strftime_now stays undefined: templates test for it, and a prompt that holds today's date would make data
        // and results differ from day to day.
        let source = Source(Box::into_raw(without_generation_tags(source).into_boxed_str()));
        // The engine borrows its sources, unless a feature with more dependencies is on.
        // SAFETY: the text outlives env, in the struct below and where `?` leaves (env was made first, but an
        // environment that refused its template holds no reference to it).
        env.add_template(NAME, unsafe { &*source.0 })?;
        Ok(ChatTemplate { env, _source: source })
    }

    pub fn render(&self, context_json: &str) -> Res<String> {
        let context: serde_json::Value = serde_json::from_str(context_json)?;
        Ok(self.env.get_template(NAME)?.render(minijinja::value::Serde(context))?)
    }
}

/// json.dumps with transformers' defaults: no HTML escapes, ", " and ": ".
fn tojson(value: Value, args: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = args.get("indent")?;
    let ensure_ascii: Option<bool> = args.get("ensure_ascii")?;
    let sort_keys: Option<bool> = args.get("sort_keys")?;
    let separators: Option<(String, String)> = match args.get::<Option<Value>>("separators")? {
        None => None,
        Some(pair) => Some((pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string())),
    };
    args.assert_all_used()?;
    let failed = |e: serde_json::Error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {e}"));
    let mut json = serde_json::to_value(&value).map_err(failed)?;
    if sort_keys.unwrap_or(false) {
        json.sort_all_objects();
    }
    let (item_separator, key_separator) = separators
        .unwrap_or_else(|| ((if indent.is_some() { "," } else { ", " }).to_string(), ": ".to_string()));
    let style = py_json::Style { indent, ensure_ascii: ensure_ascii.unwrap_or(false), item_separator, key_separator };
    let mut out = String::new();
    py_json::write(&json, &style, 0, &mut out);
    Ok(Value::from_safe_string(out))
}

/// `{% generation %}…{% endgeneration %}` marks the assistant's part for transformers and renders as its body. The
/// engine has no such tag; `if true` in its place keeps the white space rules of a block.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let Some(close) = tag.find("%}") else { break };
        let words = tag[2..close].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        match words {
            "generation" => out.push_str(&tag[..close + 2].replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag[..close + 2].replace("endgeneration", "endif")),
            _ => out.push_str(&tag[..close + 2]),
        }
        rest = &tag[close + 2..];
    }
    out.push_str(rest);
    out
}
