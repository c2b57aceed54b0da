//! Chromium without a window, spoken to over a pipe (DevTools protocol): nothing listens on any port.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A browser with one page, and all that the page did so far.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    next_id: u64,
    /// Errors that scripts threw or logged, and those of the browser itself.
    pub errors: Vec<String>,
    /// Addresses that the page asked for.
    pub requests: Vec<String>,
}

/// Whether this test can run; says why not, and fails where a browser was required.
pub fn is_there() -> bool {
    let found = Command::new("chromium").arg("--version").output().is_ok_and(|it| it.status.success());
    let required = std::env::var("REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|it| it == "chromium");
    assert!(found || !required, "REQUIRE names chromium, and there is none");
    if !found {
        println!("skipped: no chromium");
    }
    found
}

impl Browser {
    /// Starts it with its profile in `home`.
    pub fn start(home: &Path) -> Self {
        // The pipe is expected on descriptors 3 and 4; the shell puts it there.
        let mut child = Command::new("timeout")
            .args([
                "-k",
                "1",
                "60",
                "sh",
                "-c",
                r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#,
                "chromium",
            ])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-pipe",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", home.display()))
            .env("HOME", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (errors, requests) = Default::default();
        let mut browser = Self { child, to, from, session: None, next_id: 0, errors, requests };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method, and returns its result; events that come meanwhile are kept.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(&[0]).unwrap();
        loop {
            let message = self.read();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser ended");
        let message: Value = serde_json::from_slice(&bytes).unwrap();
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                self.requests.push(params["request"]["url"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
        message
    }

    /// Makes the screen `width` pixels wide, as a phone or a desktop has it.
    pub fn resize(&mut self, width: u32) {
        let phone = width < 600;
        let screen = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": phone});
        self.call("Emulation.setDeviceMetricsOverride", screen);
    }

    /// Opens `page` and waits until it is loaded and quiet.
    pub fn open(&mut self, page: &Path) {
        self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        let ready = "document.readyState === 'complete' && location.protocol === 'file:'";
        while self.value(ready) != json!(true) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Requests that the page starts at its load have begun by the second frame after it.
        self.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))");
    }

    /// What `expression` is in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let wanted = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let found = self.call("Runtime.evaluate", wanted);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {}", found["exceptionDetails"]);
        found["result"]["value"].clone()
    }

    /// Presses Enter where the focus is.
    pub fn press_enter(&mut self) {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13});
            self.call("Input.dispatchKeyEvent", key);
        }
    }
}

impl Drop for Browser {
    /// Asks it to end, and waits; `timeout` ends one that does not.
    fn drop(&mut self) {
        let close = json!({"id": 0, "method": "Browser.close"}).to_string();
        let asked = self.to.write_all(close.as_bytes()).and_then(|()| self.to.write_all(&[0]));
        if asked.is_err() {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}
