//! What tells a cell from another, as names and values.

use serde_json::Value;

use crate::cell::Cell;
use crate::error::{At as _, Result};

/// Names and values of `cell`, those of its journal; an axis that it does not have is left out.
///
/// # Errors
///
/// The cell cannot be written as JSON.
pub fn labels(cell: &Cell) -> Result<Vec<(String, String)>> {
    let value = serde_json::to_value(cell).map_err(std::io::Error::from).at("write", "cell")?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = value.as_object().into_iter().flatten();
    Ok(pairs.filter(|it| !it.1.is_null()).map(|(name, value)| (name.clone(), text(value))).collect())
}

/// A file name for `cell`, without extension: its driver and model, then the rest.
///
/// # Errors
///
/// As [`labels`].
pub fn file_name(cell: &Cell) -> Result<String> {
    let mut name = format!("{}_{}_{}", cell.driver, cell.options, cell.params.model);
    for (key, value) in labels(cell)? {
        if !["driver", "options", "model"].contains(&key.as_str()) {
            name += &format!("_{key}={value}");
        }
    }
    let plain = |it: char| if it.is_ascii_alphanumeric() || "-_=.".contains(it) { it } else { '-' };
    Ok(name.chars().map(plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::cell;

    #[test]
    fn names_say_all_and_are_one_path_component() {
        let mut cell = cell("aufs-fuse", "default", "copy-up", 4096, 8);
        cell.params.backing = "loop:ext4/../x".to_owned();
        let name = file_name(&cell).unwrap();
        assert!(name.starts_with("aufs-fuse_default_copy-up_"), "{name}");
        assert!(name.contains("file_bytes=4096") && name.contains("found_at=8"), "{name}");
        assert!(!name.contains('/') && !name.contains(':'), "{name}");
        assert!(!name.contains("threads"), "an axis that the cell does not have");
    }
}
