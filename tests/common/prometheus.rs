//! A real Prometheus with the shipped rules, and the checker of its rules.

use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::guarded::{Guarded, directory};
use super::postgres::free_port;
use super::sse::Answer;

/// The shipped rules.
pub(crate) const RULES: &str = "packaging/prometheus/icinga-desktop-bridge.rules.yml";

/// A running Prometheus, stopped when dropped.
pub(crate) struct Prometheus {
    _server: Guarded,
    address: String,
}

impl Prometheus {
    /// Scrapes a daemon at `admin` every second, otherwise as in the manual.
    pub(crate) fn scraping(admin: &str) -> Self {
        promtool(&["--version"]);
        let directory = directory();
        let address = format!("127.0.0.1:{}", free_port());
        let job = "icinga-desktop-bridge";
        let rules = format!("{}/{RULES}", env!("CARGO_MANIFEST_DIR"));
        // JSON is YAML, too.
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [{ "job_name": job, "static_configs": [{ "targets": [admin] }] }],
        });
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, configuration.to_string()).expect("a configuration file");
        let config = format!("--config.file={}", file.display());
        let storage = format!("--storage.tsdb.path={}", directory.join("data").display());
        let listen = format!("--web.listen-address={address}");
        let command = ["prometheus", &config, &storage, &listen, "--log.level=warn"];
        Self {
            _server: Guarded::run(&directory, &command, &address),
            address,
        }
    }

    /// The answer of its API, or the error.
    async fn get(&self, path: &str) -> Result<Value, String> {
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        let body = Answer::to(&self.address, request.as_bytes())
            .await
            .rest()
            .await;
        // It is not ready at once.
        let answer: Value = serde_json::from_str(&body).map_err(|_| body.clone())?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(body)
        }
    }

    /// The labels of all current results of a query, or why there are none.
    pub(crate) async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let data = self.get(&format!("/api/v1/query?query={encoded}")).await?;
        let found = data["result"].as_array().cloned().unwrap_or_default();
        if found.is_empty() {
            return Err(format!("{query} finds nothing"));
        }
        Ok(found
            .iter()
            .map(|sample| sample["metric"].clone())
            .collect())
    }

    /// Its rules, as it has loaded and evaluated them.
    pub(crate) async fn rules(&self) -> Result<Vec<Value>, String> {
        let data = self.get("/api/v1/rules").await?;
        let rules = data["groups"][0]["rules"].as_array().cloned();
        rules.ok_or_else(|| data.to_string())
    }
}

/// Runs the checker of rules, which must succeed; its output.
pub(crate) fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("promtool runs (apt-get install prometheus)");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}
