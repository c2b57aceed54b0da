//! The constants of a gate as a matrix and the command line write them.
//!
//! ```toml
//! [gate]
//! margin = "3%"    # a cell is slower when it is slower than this
//! limit = "10%"    # a cell is cleared when it is shown to be below this
//! pairs = 8        # of both arms, for each cell and block
//! looks = ["20:0.002", "40:0.002", "80:0.003", "160:0.003"]
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::decide::{Look, Rules};

/// What a matrix or the command line says; the rest is as [`Rules::default`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Slow-down that is let pass, as a share.
    #[serde(
        deserialize_with = "share",
        serialize_with = "write_share",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub margin: Option<f64>,
    /// Slow-down whose absence clears a cell, as a share.
    #[serde(
        deserialize_with = "share",
        serialize_with = "write_share",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub limit: Option<f64>,
    /// Pairs of each cell and block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<u32>,
    /// When to judge, and the error probability that each look may spend.
    #[serde(
        deserialize_with = "looks",
        serialize_with = "write_looks",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<Vec<String>>")]
    pub looks: Option<Vec<Look>>,
}

impl Settings {
    /// These settings, those of `self` first.
    pub fn or(self, other: Self) -> Self {
        Self {
            margin: self.margin.or(other.margin),
            limit: self.limit.or(other.limit),
            pairs: self.pairs.or(other.pairs),
            looks: self.looks.or(other.looks),
        }
    }

    /// The rules, with the defaults for what is not set.
    pub fn rules(self) -> Rules {
        let default = Rules::default();
        Rules {
            margin: self.margin.unwrap_or(default.margin),
            limit: self.limit.unwrap_or(default.limit),
            miss: default.miss,
            pairs: self.pairs.unwrap_or(default.pairs),
            looks: self.looks.unwrap_or(default.looks),
        }
    }
}

/// Reads `10%` as 0.1.
///
/// # Errors
///
/// The text is not a number with `%`, or not above zero.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let expected = || format!("{text:?} is not a percentage above zero, such as \"10%\"");
    let number: f64 = text.strip_suffix('%').and_then(|it| it.parse().ok()).ok_or_else(expected)?;
    if number.is_finite() && 0.0 < number { Ok(number / 100.0) } else { Err(expected()) }
}

/// Writes 0.1 as `10%`.
pub fn percent(share: f64) -> String {
    // Shares come from percentages; rounding takes away what binary fractions add.
    format!("{}%", (share * 1e8).round() / 1e6)
}

/// Reads `BLOCKS:ALPHA`, such as `20:0.002`.
///
/// # Errors
///
/// The text is not two numbers, or the second is no probability.
pub fn parse_look(text: &str) -> Result<Look, String> {
    let expected = || format!("{text:?} is not a look; expected BLOCKS:ALPHA, such as \"20:0.002\"");
    let (blocks, alpha) = text.trim().split_once(':').ok_or_else(expected)?;
    let blocks = blocks.parse().map_err(|_| expected())?;
    let alpha: f64 = alpha.parse().map_err(|_| expected())?;
    if 0.0 < alpha && alpha < 1.0 { Ok(Look { blocks, alpha }) } else { Err(expected()) }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    parse_percent(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

fn looks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Look>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let looks: Result<Vec<Look>, String> = texts.iter().map(|it| parse_look(it)).collect();
    looks.map(Some).map_err(serde::de::Error::custom)
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn write_share<S: Serializer>(share: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&share.map(percent).unwrap_or_default())
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn write_looks<S: Serializer>(looks: &Option<Vec<Look>>, serializer: S) -> Result<S::Ok, S::Error> {
    let looks = looks.iter().flatten().map(|it| format!("{}:{}", it.blocks, it.alpha));
    serializer.collect_seq(looks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_override_the_defaults() {
        let matrix: Settings = toml::from_str("margin = \"5%\"\nlooks = [\"8:0.01\"]").unwrap();
        let given = Settings { margin: Some(0.01), pairs: Some(4), ..Settings::default() };
        let rules = given.or(matrix).rules();
        assert_eq!((rules.margin, rules.limit, rules.pairs), (0.01, Rules::default().limit, 4));
        assert_eq!((rules.looks.len(), rules.looks[0].blocks, rules.looks[0].alpha), (1, 8, 0.01));
        for wrong in
            ["margin = 3", "margin = \"3\"", "looks = [\"8\"]", "looks = [\"8:2\"]", "delta = \"3%\""]
        {
            assert!(toml::from_str::<Settings>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_are_read_back_as_they_were_written() {
        let text = "margin = \"2.5%\"\nlimit = \"10%\"\npairs = 4\nlooks = [\"8:0.01\"]";
        for text in [text, "pairs = 3", ""] {
            let settings: Settings = toml::from_str(text).unwrap();
            let written = toml::to_string(&settings).unwrap();
            assert_eq!(toml::from_str::<Settings>(&written).unwrap(), settings, "{written}");
        }
    }

    #[test]
    fn percentages_are_written_as_they_are_read() {
        for text in ["10%", "3%", "2.5%", "0.1%", "150%"] {
            assert_eq!(percent(parse_percent(text).unwrap()), text);
        }
    }
}
