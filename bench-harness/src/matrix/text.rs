//! How durations, sizes and shares stand in a matrix: as texts with their units.

/// Seconds as `"140s"`.
pub mod seconds {
    use serde::{Deserialize as _, Deserializer, Serializer, de, ser};

    use crate::size::parse_seconds;

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        parse_seconds(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }

    /// Writes them; [`deserialize`] reads the same number.
    pub fn serialize<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if seconds.is_finite() {
            serializer.serialize_str(&format!("{seconds}s"))
        } else {
            Err(ser::Error::custom("no time is endless"))
        }
    }
}

/// Seconds that may be missing.
pub mod some_seconds {
    use serde::{Deserializer, Serializer};

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        super::seconds::deserialize(deserializer).map(Some)
    }

    /// Writes them.
    #[expect(clippy::ref_option, reason = "serde calls it with a reference")]
    pub fn serialize<S: Serializer>(seconds: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match seconds {
            Some(seconds) => super::seconds::serialize(seconds, serializer),
            None => serializer.serialize_none(),
        }
    }
}

/// Bytes as `["4K", "1M"]`.
pub mod sizes {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::size::{parse_bytes, short_bytes};

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| parse_bytes(text)).collect::<Result<_, _>>().map_err(de::Error::custom)
    }

    /// Writes them.
    pub fn serialize<S: Serializer>(sizes: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(sizes.iter().map(|bytes| short_bytes(*bytes)))
    }
}

/// A share as `"2.5%"` that may be missing.
pub mod some_share {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::size::parse_share;

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        parse_share(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
    }

    /// Writes it; [`deserialize`] reads the same number.
    #[expect(clippy::ref_option, reason = "serde calls it with a reference")]
    pub fn serialize<S: Serializer>(share: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match share {
            Some(share) => serializer.serialize_str(&share.to_string()),
            None => serializer.serialize_none(),
        }
    }
}
