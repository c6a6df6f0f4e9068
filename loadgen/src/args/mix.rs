//! `--mix publish:70,call:20`: what part of the operations is of which kind.

use std::fmt;

/// Names in the order in which they are shown.
const NAMES: [&str; 4] = ["publish", "call", "subscribe", "join"];

/// Proportions, in any unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix([f64; 4]);

/// Parts of one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names of the command line")]
pub struct Shares {
    pub publish: f64,
    pub call: f64,
    pub subscribe: f64,
    pub join: f64,
}

impl Mix {
    /// Reads a list; what is not named does not happen.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = [0.0; 4];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once([':', '='])
                .ok_or_else(|| format!("'{part}' has no proportion; write for example publish:70,call:30"))?;
            let index = NAMES
                .iter()
                .position(|known| *known == name.trim())
                .ok_or_else(|| format!("'{name}' is no operation; there are {}", NAMES.join(", ")))?;
            parts[index] = value
                .trim()
                .trim_end_matches('%')
                .parse::<f64>()
                .ok()
                .filter(|value| (0.0..=1e9).contains(value))
                .ok_or_else(|| {
                    format!("'{part}': the proportion is no number; write for example {name}:70")
                })?;
        }
        if parts.iter().sum::<f64>() <= 0.0 {
            return Err(format!("'{text}' leaves nothing to do; write for example publish:70,call:30"));
        }
        Ok(Self(parts))
    }

    /// Scaled to one.
    pub fn shares(&self) -> Shares {
        let sum: f64 = self.0.iter().sum();
        let [publish, call, subscribe, join] = self.0.map(|part| part / sum);
        Shares { publish, call, subscribe, join }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = self.shares();
        let shares = [shares.publish, shares.call, shares.subscribe, shares.join];
        let parts: Vec<String> = NAMES
            .iter()
            .zip(shares)
            .filter(|(_, share)| *share > 0.0)
            .map(|(name, share)| format!("{name} {}%", (share * 1_000.0).round() / 10.0))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_are_read_in_any_unit() {
        let mix = Mix::parse("publish:3, call=1").unwrap();
        assert_eq!(mix.shares(), Shares { publish: 0.75, call: 0.25, subscribe: 0.0, join: 0.0 });
        assert_eq!(mix.to_string(), "publish 75%, call 25%");
        for (text, words) in [
            ("publish", "no proportion"),
            ("dance:1", "there are publish, call, subscribe, join"),
            ("call:many", "no number"),
            ("call:0", "nothing to do"),
        ] {
            assert!(Mix::parse(text).unwrap_err().contains(words), "{text}");
        }
    }
}
