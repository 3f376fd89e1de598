//! Python's json.dumps layout of a JSON value.
use serde_json::Value;

pub struct Style {
    pub indent: Option<usize>,
    pub ensure_ascii: bool,
    pub item_separator: String,
    pub key_separator: String,
}

/// Values come from parsed JSON, whose depth serde_json bounds: recursion is safe.
pub fn write(value: &Value, style: &Style, depth: usize, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                separate(i, style, depth + 1, out);
                write(item, style, depth + 1, out);
            }
            close(items.len(), ']', style, depth, out);
        }
        Value::Object(fields) => {
            out.push('{');
            for (i, (key, field)) in fields.iter().enumerate() {
                separate(i, style, depth + 1, out);
                write_string(&Value::from(key.as_str()), style, out);
                out.push_str(&style.key_separator);
                write(field, style, depth + 1, out);
            }
            close(fields.len(), '}', style, depth, out);
        }
        Value::String(_) => write_string(value, style, out),
        _ => out.push_str(&value.to_string()),
    }
}

fn separate(index: usize, style: &Style, depth: usize, out: &mut String) {
    if index > 0 {
        out.push_str(&style.item_separator);
    }
    new_line(style, depth, out);
}

fn close(items: usize, bracket: char, style: &Style, depth: usize, out: &mut String) {
    if items > 0 {
        new_line(style, depth, out);
    }
    out.push(bracket);
}

fn new_line(style: &Style, depth: usize, out: &mut String) {
    if let Some(width) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat(' ').take(width * depth));
    }
}

fn write_string(text: &Value, style: &Style, out: &mut String) {
    let quoted = text.to_string();
    for c in quoted.chars() {
        if c.is_ascii() || !style.ensure_ascii {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}
