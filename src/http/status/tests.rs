use super::*;

fn status() -> Status {
    Status {
        report: Report {
            version: "1.2.3".to_owned(),
            not_ready: None,
            streams: 312,
            streams_limit: 1000,
            users: 57,
            sessions: 3,
            sessions_up: 3,
            round_age_seconds: Some(4.2),
            latency_p95_seconds: Some(0.0011),
            events_without_receipt: 0,
        },
        database: [true, true, true],
        missing_triggers: Vec::new(),
        running_for: Duration::from_secs(90_000),
        metrics: "# HELP a_b What <b> counts.\n# TYPE a_b counter\na_b_total{by=\"y\"} 2\na_b_total{by=\"x\"} 1\n\
                  # HELP a_c How long.\n# UNIT a_c seconds\na_c_sum 0.5\na_c_count 3\na_c_bucket{le=\"1.0\"} 3\n# EOF\n"
            .to_owned(),
    }
}

#[test]
fn a_page_has_its_state_figures_and_a_row_for_each_sample() {
    let page = status().page();
    for part in [
        "<title>Everything works – icinga-desktop-bridge</title>",
        "<section id=\"state\" class=\"ok\">\n<h2>Everything works</h2>\n</section>",
        "<p class=\"figure ok\">312</p>\n<meter min=\"0\" max=\"1000\" value=\"312\">312 of 1000</meter>",
        "listener up, query up, sign-in up",
        "<p class=\"figure ok\">1.1 ms</p>",
        "<p class=\"figure ok\">4 s ago</p>",
        "<p class=\"figure ok\">1 d 1 h</p>\n<p class=\"more\">version 1.2.3</p>",
        "rowspan=\"2\"><code>a_b</code> <span>What &lt;b&gt; counts.</span></th><td>x</td><td class=\"value\">1</td></tr>\n\
         <tr><td>y</td><td class=\"value\">2</td></tr>",
        "<td>count</td><td class=\"value\">3</td></tr>\n<tr><td>sum</td><td class=\"value\">0.5</td></tr>\n</tbody>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains('{'), "{page}");
}

#[test]
fn problems_come_first_and_have_a_colour() {
    let wrong: [(fn(&mut Status), _, _); 4] = [
        (
            |status| status.report.events_without_receipt = 2,
            "Works, with warnings",
            "class=\"warning\"",
        ),
        (
            |status| status.report.streams = 901,
            "Works, with warnings",
            "901 of 1000 places for streams are taken",
        ),
        (
            |status| status.report.latency_p95_seconds = Some(5.1),
            "Something is wrong",
            "events take 5100.0 ms (more than 5 s)",
        ),
        (
            |status| status.report.not_ready = Some("no <database> & no \"fun\"".to_owned()),
            "Something is wrong",
            "<dt>not ready: no &lt;database&gt; &amp; no &quot;fun&quot;</dt>",
        ),
    ];
    for (change, headline, part) in wrong {
        let mut status = status();
        change(&mut status);
        let main = status.main();
        let heading = format!("<main data-title=\"{headline} – icinga-desktop-bridge\">");
        assert!(main.starts_with(&heading), "{main}");
        assert!(main.contains(&format!("<h2>{headline}</h2>")), "{main}");
        assert!(main.contains(part), "{part}: {main}");
    }
}

#[test]
fn no_text_is_taken_for_html() {
    let evil = "<script>alert('x')</script>";
    let mut status = status();
    status.report.version = evil.to_owned();
    status.report.not_ready = Some(evil.to_owned());
    status.missing_triggers = vec![evil.to_owned()];
    status.metrics = format!("# HELP {evil} {evil}\n{evil}{{a=\"{evil}\"}} {evil}\n");
    let page = status.page();
    assert_eq!(page.matches("<script").count(), 1, "{page}");
    assert!(!page.contains("alert('"), "{page}");
}

#[test]
fn spans_have_two_units() {
    for (seconds, text) in [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3661, "1 h 1 min"),
        (86_400, "1 d 0 h"),
    ] {
        assert_eq!(span(Duration::from_secs(seconds)), text);
    }
}
