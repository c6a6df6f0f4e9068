//! What is wrong with a configuration, where, and what to do: the only thing that an operator sees of this module's work.

use std::fmt;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file. Line and column count from 1.
    File {
        /// As the operator named it.
        path: String,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
        /// The whole line, for the message.
        source: String,
        /// How many characters of it are meant.
        width: usize,
    },
    /// In an environment variable, with its value.
    Environment(String, String),
    /// On the command line, as it was typed.
    Flag(String),
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, .. } => write!(f, "{path}:{line}"),
            Self::Environment(name, _) => write!(f, "environment {name}"),
            Self::Flag(typed) => f.write_str(typed),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key, if one is meant.
    pub key: Option<String>,
    /// What is wrong.
    pub wrong: String,
    /// What may be written, or what to do.
    pub help: Vec<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line, column, .. } => write!(f, "{path}:{line}:{column}: ")?,
            Place::Environment(name, value) => write!(f, "environment {name}={value}: ")?,
            Place::Flag(typed) => write!(f, "{typed}: ")?,
            Place::Default => {}
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.wrong)?;
        if let Place::File { column, source, width, .. } = &self.place {
            write!(
                f,
                "\n    | {source}\n    | {:column$}{}",
                "",
                "^".repeat((*width).max(1)),
                column = column - 1
            )?;
        }
        for help in &self.help {
            write!(f, "\n    {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration. Never empty.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "error: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Rewrites a message of the deserializer into words about keys and values.
///
/// A [`Scalar`](super::units::Scalar) separates "wrong" and "allowed" by a line break; serde's own messages for unknown
/// fields and variants carry the list of known ones in backquotes.
pub fn reword(message: &str) -> (String, Vec<String>) {
    if let Some((wrong, help)) = message.split_once('\n') {
        return (wrong.to_owned(), help.lines().map(str::to_owned).collect());
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let named = |kind: &str, word: &str| {
        let (given, known) = quoted.split_first()?;
        message.starts_with(kind).then(|| {
            let mut help = Vec::new();
            if let Some(near) = nearest(given, known) {
                help.push(format!("did you mean {near}?"));
            }
            help.push(format!("allowed: {}", known.join(", ")));
            (format!("{word} {given:?}"), help)
        })
    };
    if let Some(reworded) = named("unknown field", "unknown key") {
        return reworded;
    }
    if let Some(reworded) = named("unknown variant", "unknown value") {
        return reworded;
    }
    if let (true, Some(key)) = (message.starts_with("missing field"), quoted.first()) {
        return (format!("{key} is missing"), vec![format!("add a line: {key} = …")]);
    }
    if let Some((given, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    {
        return (
            format!("{} cannot stand here", given.replace('`', "")),
            vec![format!("allowed: {expected}")],
        );
    }
    (message.to_owned(), Vec::new())
}

/// The known word that was probably meant: at most a third of its letters differ.
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (distance(given, word), *word))
        .filter(|(distance, word)| {
            *distance <= word.len().max(3) / 3 || word.contains(given) && given.len() > 3
        })
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein distance, on bytes: keys are ASCII.
fn distance(a: &str, b: &str) -> usize {
    // Both are short; a hostile length is cut so that the square stays small.
    let (a, b) = (&a.as_bytes()[..a.len().min(64)], &b.as_bytes()[..b.len().min(64)]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!left.eq_ignore_ascii_case(right));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_gets_a_suggestion() {
        let known = ["message", "outbox", "outbox_age", "ping_interval"];
        assert_eq!(nearest("mesage", &known), Some("message"));
        assert_eq!(nearest("ping_intervall", &known), Some("ping_interval"));
        assert_eq!(nearest("interval", &known), Some("ping_interval"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn messages_of_the_deserializer_become_words() {
        assert_eq!(
            reword("unknown field `bnd`, expected one of `bind`, `endpoints`"),
            (
                "unknown key \"bnd\"".into(),
                vec!["did you mean bind?".into(), "allowed: bind, endpoints".into()]
            )
        );
        assert_eq!(
            reword("invalid type: integer `5`, expected a boolean"),
            ("integer 5 cannot stand here".into(), vec!["allowed: a boolean".into()])
        );
        assert_eq!(reword("missing field `bind`").0, "bind is missing");
    }
}
