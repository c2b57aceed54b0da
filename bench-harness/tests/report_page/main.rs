//! `report.html` in a browser: it works, asks nobody for anything, and fits a phone.

#![allow(clippy::unwrap_used)] // Reason: the functions that tests share are no tests to clippy.

mod browser;
#[path = "../made/mod.rs"]
mod made;

use std::fs;
use std::path::Path;
use std::process::Command;

use browser::Browser;
use made::Made;
use serde_json::json;

const HOSTILE: &str = "<script>console.error('hostile')</script><img src=\"http://192.0.2.1/x.png\">";

fn report(dir: &Path) {
    let made = Made { label: HOSTILE, error: HOSTILE, ..Made::default() };
    made::write(dir, &made);
    let output = Command::new(env!("CARGO_BIN_EXE_aufs-bench")).arg("report").arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Requests that leave the file.
fn leaving(browser: &Browser) -> Vec<&String> {
    let inside =
        |it: &&String| ["file:", "data:", "blob:", "about:"].iter().any(|scheme| it.starts_with(scheme));
    browser.requests.iter().filter(|it| !inside(it)).collect()
}

/// How many pixels the page is wider than the screen.
const OVERFLOW: &str = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// Script that finds the first table of results and its column of medians.
const TABLE: &str = "const table = [...document.querySelectorAll('table.sortable')]\
    .find((it) => it.tHead.textContent.includes('p50'));\
    const head = [...table.tHead.rows[0].cells].find((it) => it.textContent === 'p50');\
    table.closest('details').open = true;";

#[test]
fn chromium_a_report_works_offline_and_on_a_phone() {
    if !browser::is_there() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    report(&run);
    let mut browser = Browser::start(&place.path().join("profile"));
    browser.resize(1200);
    browser.open(&run.join("report.html"));
    check_sorting(&mut browser);
    check_themes(&mut browser);
    check_data(&mut browser, &run);

    browser.resize(390);
    browser.value("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
    assert_eq!(browser.value(OVERFLOW), json!(0), "the page scrolls sideways on a phone");
    let svg = "Math.max(...[...document.querySelectorAll('figure svg')].map((it) => it.getBoundingClientRect().width))";
    assert!(browser.value(svg).as_f64().unwrap() <= 390.0, "figures are scaled to the screen");
    browser.call("Emulation.setEmulatedMedia", json!({"media": "print"}));
    let nav = browser.value("getComputedStyle(document.querySelector('nav')).display");
    assert_eq!(nav, "none", "paper has no links");

    assert_eq!(browser.errors, Vec::<String>::new());
    assert_eq!(leaving(&browser), Vec::<&String>::new());
    assert!(browser.requests.iter().any(|it| it.ends_with("report.html")), "requests are seen at all");
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0, "hostile text stays text");
}

fn check_sorting(browser: &mut Browser) {
    let in_table =
        |browser: &mut Browser, what: &str| browser.value(&format!("(() => {{ {TABLE} {what} }})()"));
    let keys = |browser: &mut Browser| -> Vec<f64> {
        let column =
            "return [...table.tBodies[0].rows].map((it) => Number(it.cells[head.cellIndex].dataset.k));";
        in_table(browser, column).as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
    };
    let before = keys(browser);
    assert!(10 < before.len() && !before.is_sorted(), "nothing is to be sorted in {before:?}");
    in_table(browser, "head.querySelector('button').click();");
    assert!(keys(browser).is_sorted(), "a click sorts");
    in_table(browser, "head.querySelector('button').focus();");
    browser.press_enter();
    assert!(keys(browser).iter().rev().is_sorted(), "a key sorts the other way");
    assert_eq!(in_table(browser, "return head.getAttribute('aria-sort');"), "descending");
}

fn check_themes(browser: &mut Browser) {
    let paper = "getComputedStyle(document.body).backgroundColor";
    let picture = "getComputedStyle(document.querySelector('figure svg rect')).fill";
    for (scheme, dark) in [("light", false), ("dark", true)] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.call("Emulation.setEmulatedMedia", features);
        let (page, figure) = (browser.value(paper), browser.value(picture));
        assert_eq!(page, figure, "pictures are on the paper of the page");
        assert_eq!(page != "rgb(255, 255, 255)", dark, "{scheme}");
    }
    for expected in ["light", "dark"] {
        browser.value("document.getElementById('theme').click()");
        assert_eq!(browser.value("document.documentElement.dataset.theme"), expected);
    }
}

/// What is offered for download is what lies beside the page.
fn check_data(browser: &mut Browser, run: &Path) {
    let link = "document.querySelector('a[download=\"summary.csv\"]').href";
    let text = browser.value(&format!("fetch({link}).then((it) => it.text())"));
    assert_eq!(text.as_str().unwrap(), fs::read_to_string(run.join("summary.csv")).unwrap());
}

#[test]
fn chromium_the_checks_see_what_they_look_for() {
    if !browser::is_there() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("bad.html");
    let bad = "<!DOCTYPE html><meta name=viewport content='width=device-width'><div style='width:800px'>wide</div>\
               <img src='http://192.0.2.1/x.png'><script>console.error('logged'); throw new Error('thrown');</script>";
    fs::write(&page, bad).unwrap();
    let mut browser = Browser::start(&place.path().join("profile"));
    browser.resize(390);
    // The page never finishes loading its picture, hence no waiting.
    browser.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
    while browser.errors.len() < 2 || leaving(&browser).is_empty() {
        browser.value("1");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for expected in ["logged", "thrown"] {
        assert!(browser.errors.iter().any(|it| it.contains(expected)), "{:?}", browser.errors);
    }
    assert_eq!(leaving(&browser), ["http://192.0.2.1/x.png"]);
    assert!(100.0 < browser.value(OVERFLOW).as_f64().unwrap());
}
