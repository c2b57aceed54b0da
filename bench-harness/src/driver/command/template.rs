//! Arguments of a command with holes in braces, as a description has them.

use std::ffi::{OsStr, OsString};

use crate::suggest;

/// What a hole stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hole {
    /// All layers in one text, topmost first.
    Lowers,
    /// The directory that takes what is changed.
    Upper,
    /// An empty directory on the same file system.
    Work,
    /// Where the stack is to be shown.
    Target,
    /// One layer.
    Layer,
    /// The arguments of the option set; an argument of its own.
    Options,
    /// The arguments of each layer; an argument of its own.
    Layers,
}

/// All holes by their names.
const HOLES: [(&str, Hole); 7] = [
    ("lowers", Hole::Lowers),
    ("upper", Hole::Upper),
    ("work", Hole::Work),
    ("target", Hole::Target),
    ("layer", Hole::Layer),
    ("options", Hole::Options),
    ("layers", Hole::Layers),
];

impl Hole {
    /// Whether it stands for whole arguments.
    pub fn is_many(self) -> bool {
        matches!(self, Self::Options | Self::Layers)
    }

    fn name(self) -> &'static str {
        HOLES.iter().find(|it| it.1 == self).map_or("", |it| it.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hole(Hole),
}

/// One argument with its holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads `text`, in which only the holes `allowed` may stand; `{{` and `}}` are braces.
    ///
    /// # Errors
    ///
    /// The wrong word, which stands in `text`, and what is wrong with it.
    pub fn parse(text: &str, allowed: &[Hole]) -> Result<Self, (String, String)> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if let Some(left) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = left;
                continue;
            }
            let end = if brace == "{" { after.find('}') } else { None };
            let Some(end) = end else {
                let what = format!("a single {brace:?} in {text:?}; write it twice for the character itself");
                return Err((text.to_owned(), what));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Hole(hole(&after[..end], allowed)?));
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        let template = Self(pieces);
        match template.0.iter().find_map(|it| if let Piece::Hole(hole) = it { Some(*hole) } else { None }) {
            Some(hole) if hole.is_many() && template.0.len() != 1 => {
                let what =
                    format!("{{{}}} stands for whole arguments and must be one of its own", hole.name());
                Err((text.to_owned(), what))
            }
            _ => Ok(template),
        }
    }

    /// The hole that stands for whole arguments, if it is one.
    pub fn many(&self) -> Option<Hole> {
        match self.0.as_slice() {
            [Piece::Hole(hole)] if hole.is_many() => Some(*hole),
            _ => None,
        }
    }

    /// Whether `hole` stands in it.
    pub fn has(&self, hole: Hole) -> bool {
        self.0.contains(&Piece::Hole(hole))
    }

    /// The argument with what `value` gives for each hole.
    pub fn fill(&self, value: impl Fn(Hole) -> OsString) -> OsString {
        let mut filled = OsString::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push(OsStr::new(text)),
                Piece::Hole(hole) => filled.push(value(*hole)),
            }
        }
        filled
    }
}

fn hole(name: &str, allowed: &[Hole]) -> Result<Hole, (String, String)> {
    let known: Vec<&str> = allowed.iter().map(|it| it.name()).collect();
    let found = HOLES.iter().find(|it| it.0 == name && allowed.contains(&it.1));
    found.map(|it| it.1).ok_or_else(|| (format!("{{{name}}}"), suggest::unknown("placeholder", name, &known)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNT: &[Hole] = &[Hole::Lowers, Hole::Upper, Hole::Target, Hole::Options];

    #[test]
    fn holes_are_filled() {
        let value = |hole: Hole| OsString::from(format!("<{}>", hole.name()));
        for (text, expected) in [
            ("lowerdir={lowers},upperdir={upper}", "lowerdir=<lowers>,upperdir=<upper>"),
            ("{target}", "<target>"),
            ("a{{b}}{{{upper}}}", "a{b}{<upper>}"),
            ("", ""),
        ] {
            let template = Template::parse(text, MOUNT).unwrap();
            assert_eq!(template.fill(value), OsStr::new(expected), "{text}");
        }
        assert_eq!(Template::parse("{options}", MOUNT).unwrap().many(), Some(Hole::Options));
    }

    #[test]
    fn mistakes_name_the_word() {
        for (text, word, expected) in [
            ("-o {uper}", "{uper}", "unknown placeholder \"uper\"; did you mean \"upper\"?"),
            ("{layer}", "{layer}", "unknown placeholder \"layer\""),
            ("a{upper", "a{upper", "a single \"{\""),
            ("a}b", "a}b", "a single \"}\""),
            ("x{options}", "x{options}", "{options} stands for whole arguments"),
            ("{}", "{}", "unknown placeholder \"\""),
        ] {
            let (found, message) = Template::parse(text, MOUNT).unwrap_err();
            assert_eq!(found, word);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_when_its_braces_are_doubled(text in "[a-z{}=:,ä ]{0,20}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            let template = Template::parse(&doubled, MOUNT).unwrap();
            prop_assert_eq!(template.fill(|_| OsString::from("never")), OsString::from(text));
        }

        #[test]
        fn no_text_is_fatal(text in "[a-z{}]{0,20}") {
            if let Err((word, _)) = Template::parse(&text, MOUNT) {
                prop_assert!(text.contains(&word));
            }
        }
    }
}
