//! Pictures of sample figures are XML that shows the measured values.

use super::figures::{distribution, median, parse};
use super::{growth, latency, peers};

/// The texts of a picture.
///
/// # Panics
///
/// If it is not XML with `svg` at its root.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).expect("XML");
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let texts = document
        .descendants()
        .filter(|node| node.has_tag_name((SVG, "text")));
    texts
        .filter_map(|node| Some(node.text()?.trim().to_owned()))
        .collect()
}

const SVG: &str = "http://www.w3.org/2000/svg";

fn shows(svg: &str, wanted: &[&str]) {
    let texts = texts(svg);
    for wanted in wanted {
        assert!(
            texts.iter().any(|text| text == wanted),
            "{wanted:?} in {texts:?}"
        );
    }
}

#[test]
fn latency_shows_each_receiver() {
    let mut lines = String::new();
    for disk in [true, false] {
        for receiver in ["bare LISTEN", "LISTEN and read", "bridge"] {
            lines += &format!(
                "{{\"disk\":{disk},\"commits\":\"each alone, by turns\",\"receiver\":\"{receiver}\",\
                 \"latencies_us\":[160.5,170.25,900]}}\n"
            );
        }
    }
    let svg = latency::draw(&parse(&lines).expect("JSON")).expect("a picture");
    shows(
        &svg,
        &["bridge", "bare LISTEN", "LISTEN and read", "% of events"],
    );
}

#[test]
fn peers_shows_the_hubs_that_were_measured() {
    let lines = r#"{"what":"memory","hub":"bridge","streams":10000,"bytes":3100}
{"what":"memory","hub":"nchan","streams":10000,"bytes":9900}
{"what":"memory","hub":"bridge","streams":10000,"bytes":3300}
{"what":"memory","hub":"bridge","streams":10000,"bytes":3200}
{"what":"fanout","hub":"bridge","streams":10000,"last_ms":30,"arrivals_ms":[10,20,30]}
{"what":"fanout","hub":"nchan","streams":10000,"last_ms":60,"arrivals_ms":[1,50,60]}"#;
    let svg = peers::draw(&parse(lines).expect("JSON")).expect("a picture");
    shows(
        &svg,
        &["this daemon", "nchan, one channel", "3.2 kB", "9.9 kB"],
    );
    assert!(!svg.contains("better-sse"), "it was not measured");
}

#[test]
fn growth_shows_each_figure() {
    let line = |streams: usize| {
        format!(
            "{{\"streams\":{streams},\"bytes_per_stream\":3000,\"last_ms\":[90,100,110],\"sign_ins_per_second\":8000,\
             \"idle_seconds\":20,\"idle\":{{\"daemon_cpu_ms\":40}}}}\n"
        )
    };
    let lines = [line(1000), line(2500), line(5000)].concat();
    let svg = growth::draw(&parse(&lines).expect("JSON")).expect("a picture");
    shows(
        &svg,
        &[
            "Memory per idle stream",
            "Sign-ins",
            "ms a second",
            "1000",
            "5000",
        ],
    );
}

#[test]
fn what_was_not_measured_is_an_error() {
    for (name, _, draw) in super::PICTURES {
        assert!(draw(&[]).is_err(), "{name} of nothing");
    }
}

#[test]
fn medians_and_distributions_are_of_all_values() {
    assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median([]), None);
    let points = distribution(vec![4.0, 1.0, 2.0, 3.0]);
    assert_eq!(points[0], (1.0, 25.0));
    assert_eq!(points[3], (4.0, 100.0));
    let many = distribution((0..10_000).map(f64::from).collect());
    assert!(many.len() < 600 && many.last() == Some(&(9999.0, 100.0)));
}
