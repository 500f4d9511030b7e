//! Text from objects, made fit for a line that people read.

/// The text with its control characters escaped: an object's author must not be able to write lines of their own into a dump or a terminal.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_characters_are_escaped() {
        for (text, expected) in [
            ("", ""),
            (r#"`\d+` "é" 'x'"#, r#"`\d+` "é" 'x'"#),
            ("a\nb\r\t\u{1b}[0m", r"a\nb\r\t\u{1b}[0m"),
            ("\u{85}", r"\u{85}"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
