//! Names on a terminal, as GNU ls shows them: what a terminal would obey or a shell would take apart is quoted, so that it does no harm and can
//! be pasted back.

/// Characters that a shell does not take for themselves.
const SPECIAL: &str = " !\"$&'()*;<>?[\\]^`{|}";

/// The name as it is, or as a word of a shell: `'a b'`, `'a'$'\n''b'`. Bytes that are not UTF-8 are written in octal.
pub(crate) fn quote(name: &[u8]) -> String {
    let parts: Vec<Part> = name.utf8_chunks().flat_map(parts).collect();
    let hostile = parts.iter().any(|part| matches!(part, Part::Hostile(_)));
    let special = |part: &Part| matches!(part, Part::Plain(c) if SPECIAL.contains(*c));
    let odd_start = name.first().is_none_or(|first| b"~#".contains(first));
    if !hostile && !odd_start && !parts.iter().any(special) {
        return parts.iter().map(Part::text).collect();
    }
    let mut out = String::from("'");
    let mut in_hostile = false;
    for part in &parts {
        let is_hostile = matches!(part, Part::Hostile(_));
        match (in_hostile, is_hostile) {
            (false, true) => out.push_str("'$'"),
            (true, false) => out.push_str("''"),
            _ => {}
        }
        in_hostile = is_hostile;
        match part {
            Part::Plain('\'') => out.push_str("'\\''"),
            part => out.push_str(&part.text()),
        }
    }
    out.push('\'');
    out
}

enum Part {
    Plain(char),
    /// A byte in escaped form.
    Hostile(u8),
}

impl Part {
    fn text(&self) -> String {
        match self {
            Part::Plain(c) => c.to_string(),
            Part::Hostile(byte) => match byte {
                0x07 => "\\a".into(),
                0x08 => "\\b".into(),
                b'\t' => "\\t".into(),
                b'\n' => "\\n".into(),
                0x0b => "\\v".into(),
                0x0c => "\\f".into(),
                b'\r' => "\\r".into(),
                byte => format!("\\{byte:03o}"),
            },
        }
    }
}

fn parts(chunk: std::str::Utf8Chunk<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    for c in chunk.valid().chars() {
        match c.is_control() {
            true => parts.extend(c.encode_utf8(&mut [0; 4]).bytes().map(Part::Hostile)),
            false => parts.push(Part::Plain(c)),
        }
    }
    parts.extend(chunk.invalid().iter().map(|byte| Part::Hostile(*byte)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_gnu_ls_does() {
        let check = |name: &[u8], expected: &str| assert_eq!(quote(name), expected, "{name:?}");
        check(b"plain-name_1.2,dt=3", "plain-name_1.2,dt=3");
        check("/größe/表".as_bytes(), "/größe/表");
        check(b"", "''");
        check(b"a b", "'a b'");
        check(b"~", "'~'");
        check(b"it's", "'it'\\''s'");
        check(b"a\nb", "'a'$'\\n''b'");
        check(b"\x1b[31mred", "''$'\\033''[31mred'");
        check(b"a\xffb", "'a'$'\\377''b'");
        check("a\u{9b}b".as_bytes(), "'a'$'\\302\\233''b'");
    }
}
