//! Just enough of Rust's lexical grammar to know what is code: comments, strings and characters are blanked out.
//!
//! Bytes keep their place and lines keep their number, so a hit in the blanked text is a hit in the file.

/// `text` with every byte of comments, string literals and character literals replaced by a space (newlines stay).
///
/// Lifetimes and labels stay code. Invalid source (an unclosed string) blanks to the end and never panics.
pub fn blank_non_code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_comment(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment(bytes, at),
            b'"' => quoted(bytes, at, b'"'),
            b'\'' => character(bytes, at),
            b'r' | b'b' | b'c' if !continues_word(bytes, at) => prefixed_string(bytes, at),
            _ => 0,
        };
        if length == 0 {
            out.push(byte);
            at += 1;
        } else {
            let end = (at + length).min(bytes.len());
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|&b| if b == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        }
    }
    // Only whole literals and comments are blanked, so no character is split; lossy keeps this total.
    String::from_utf8_lossy(&out).into_owned()
}

/// `code` (already blanked) with the bodies of `#[cfg(test)] mod ... { }` blanked too.
pub fn blank_test_modules(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let after = start + "#[cfg(test)]".len();
        from = after;
        let rest = code[after..].trim_start();
        let is_module = rest.starts_with("mod ") || rest.starts_with("pub(crate) mod ");
        let Some(open) = code[after..].find(['{', ';']).map(|at| after + at) else {
            break;
        };
        if !is_module || code.as_bytes()[open] == b';' {
            continue;
        }
        let end = matching_brace(code.as_bytes(), open);
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn matching_brace(code: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_comment(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|&b| b == b'\n')
        .unwrap_or(bytes.len() - at)
}

fn block_comment(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here < bytes.len() {
        match (bytes[here], bytes.get(here + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                here += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                here += 2;
                if depth == 0 {
                    return here - at;
                }
            }
            _ => here += 1,
        }
    }
    bytes.len() - at
}

fn quoted(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b if b == quote => return here + 1 - at,
            _ => here += 1,
        }
    }
    bytes.len() - at
}

/// A character literal is one character or an escape between quotes; anything else is a lifetime.
fn character(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => quoted(bytes, at, b'\''),
        Some(&first) => {
            let width = match first {
                0..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            if bytes.get(at + 1 + width) == Some(&b'\'') {
                width + 2
            } else {
                0
            }
        }
        None => 0,
    }
}

/// `r"..."`, `r#"..."#`, `b"..."`, `br"..."`, `c"..."`, `b'x'`; 0 when it is a plain word.
fn prefixed_string(bytes: &[u8], at: usize) -> usize {
    let mut here = at;
    while here < at + 2 && matches!(bytes.get(here), Some(b'b' | b'c' | b'r')) {
        here += 1;
    }
    let raw = bytes[at..here].contains(&b'r');
    let hashes = bytes[here..].iter().take_while(|&&b| b == b'#').count();
    match bytes.get(here + hashes) {
        Some(b'"') if raw => {
            let mut close = vec![b'"'];
            close.resize(hashes + 1, b'#');
            let body = here + hashes + 1;
            bytes[body..]
                .windows(close.len())
                .position(|window| window == close)
                .map_or(bytes.len() - at, |found| body + found + close.len() - at)
        }
        Some(b'"') if hashes == 0 => here - at + quoted(bytes, here, b'"'),
        Some(b'\'') if hashes == 0 && here == at + 1 && bytes[at] == b'b' => {
            match character(bytes, here) {
                0 => 0,
                length => here - at + length,
            }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: &str) {
        let got = blank_non_code(input);
        assert_eq!(got.len(), input.len(), "{input:?}");
        assert_eq!(
            got.split_whitespace().collect::<Vec<_>>().join(" "),
            expect,
            "{input:?}"
        );
    }

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"f("std::fs", x)"#, "f( , x)");
        check(r#"f("a\"b", x)"#, "f( , x)");
        check("f(r\"a\\\", x)", "f( , x)");
        check("f(r#\"a\"b\"#, x)", "f( , x)");
        check("f(br##\"a\"#b\"##, b\"c\", b'd', c\"e\")", "f( , , , )");
        check(
            "fn f<'a>(x: &'a str) -> char { 'x' }",
            "fn f<'a>(x: &'a str) -> char { }",
        );
        check("['\\'', '\"', 'é', '\\u{1F512}']", "[ , , , ]");
        check("car\"x\"", "car");
        check("break 'outer; let r = b;", "break 'outer; let r = b;");
        check("\"unclosed", "");
        check("/* unclosed", "");
        check("'", "'");
    }

    #[test]
    fn only_test_modules_are_blanked() {
        let code = "use a;\n#[cfg(test)]\nmod tests { fn f() { g(); } }\nfn h() {}\n#[cfg(test)]\nuse b;\n#[cfg(test)]\nmod c;\nfn i() {}";
        let got = blank_test_modules(code);
        assert_eq!(got.len(), code.len());
        assert!(!got.contains("g()"));
        for kept in ["use a;", "fn h()", "use b;", "mod c;", "fn i()"] {
            assert!(got.contains(kept), "{kept}");
        }
    }
}
