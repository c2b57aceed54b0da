//! Pictures inside the page: their colours become those of its theme.

use crate::report::plot::THEMED;

/// `svg` with each colour that a theme knows replaced by its variable.
pub fn themed(svg: &str) -> String {
    let mut text = svg.to_owned();
    for (color, name) in THEMED {
        let hex = format!("\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
        text = text.replace(&hex, &format!("\"var(--{name})\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_has_its_variable_and_its_light_value() {
        for (color, name) in THEMED {
            let long = format!("#{:02x}{:02x}{:02x}", color.0, color.1, color.2);
            let line = crate::report::page::STYLE.lines().find(|it| it.contains(&format!("--{name}:")));
            let line = line.unwrap_or_else(|| panic!("--{name} is not in the style"));
            let short = format!("#{}{}{},", &long[1..2], &long[3..4], &long[5..6]);
            assert!(
                line.contains(&format!("light-dark({long},"))
                    || line.contains(&format!("light-dark({short}")),
                "{line}"
            );
        }
    }

    #[test]
    fn colours_become_variables() {
        let svg = "<rect fill=\"#FFFFFF\"/><text fill=\"#222222\">\"#222222</text><rect fill=\"#440154\"/>";
        let expected =
            "<rect fill=\"var(--paper)\"/><text fill=\"var(--ink)\">\"#222222</text><rect fill=\"#440154\"/>";
        assert_eq!(themed(svg), expected);
    }
}
