//! What fingers type that know other tools.

use std::ffi::{OsStr, OsString};

/// Flags whose next word is their value.
const WITH_VALUE: [&str; 7] = ["--config", "--set", "--masters", "-n", "--lines", "-c", "--bytes"];

/// The arguments with `fs head -20` and `fs tail -20` written as `-n20`, as head(1) and tail(1) take them.
pub(super) fn translated(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut is_value = false;
    // The first is the program's name.
    for argument in arguments.iter_mut().skip(1) {
        let text = argument.to_str().unwrap_or_default();
        if std::mem::take(&mut is_value) {
            continue;
        }
        if text == "--" {
            break;
        }
        is_value = WITH_VALUE.contains(&text);
        if !text.starts_with('-') && words.len() < 2 {
            words.push(text.to_owned());
        } else if (words == ["fs", "head"] || words == ["fs", "tail"])
            && let Some(count) = count(argument)
        {
            *argument = format!("-n{count}").into();
        }
    }
    arguments
}

/// The number of `-20`.
fn count(argument: &OsStr) -> Option<&str> {
    let digits = argument.to_str()?.strip_prefix('-')?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, expected: &str) {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(translated(words(typed)), words(expected), "{typed}");
    }

    #[test]
    fn counts_of_lines_are_translated_and_nothing_else() {
        check("forebay fs head -20 /x", "forebay fs head -n20 /x");
        check("forebay fs tail /x -3", "forebay fs tail /x -n3");
        check(
            "forebay --set a=b --config -1 fs --masters h:1 tail -3 /x",
            "forebay --set a=b --config -1 fs --masters h:1 tail -n3 /x",
        );
        check("forebay fs head -n -20 /x", "forebay fs head -n -20 /x");
        check("forebay fs head -c 20 -- -20", "forebay fs head -c 20 -- -20");
        check("forebay fs head - -x -2k /x", "forebay fs head - -x -2k /x");
        check("forebay fs ls -20", "forebay fs ls -20");
        check("forebay", "forebay");
    }
}
