//! `kvjob run`: what it promises, on a real store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::process::Stdio;

use common::{Answer, Place, is_alive, signal, wait_for};
use serde_json::{Value, json};

/// Twelve lines: two tasks, each with all numbers.
fn twelve() -> String {
    let line = |number: usize| {
        let task = if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        };
        format!("{{\"task\":\"{task}\",\"payload\":{{\"n\":{number}}}}}\n")
    };
    (0..12).map(line).collect()
}

fn summary(answer: &Answer, names: &[&str]) -> Vec<u64> {
    let summary = answer.json();
    let number = |name: &&str| {
        let value = name.split('.').fold(&summary, |value, name| &value[name]);
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {answer:?}"))
    };
    names.iter().map(number).collect()
}

#[test]
fn every_line_is_done_once_and_the_same_file_again_adds_nothing() {
    let place = Place::new();
    place.write("jobs.jsonl", twelve());
    let run = |json| {
        let exec = "cat >> done.txt";
        let mut args = vec!["run", "jobs.jsonl", "--exec", exec, "-j", "3"];
        args.extend(json);
        place.ok(&args)
    };
    let first = run(None);
    assert!(
        first.out.starts_with("12 jobs: 12 completed, 0 failed\n"),
        "{first:?}"
    );
    assert!(
        first.out.contains("0 retried") && first.out.contains("jobs/s"),
        "{first:?}"
    );
    assert_eq!(first.err, "");

    let mut done: Vec<String> = place.read("done.txt").lines().map(str::to_owned).collect();
    done.sort();
    let mut expected: Vec<String> = (0..12).map(|n| format!("{{\"n\":{n}}}")).collect();
    expected.sort();
    assert_eq!(done, expected);

    let again = run(Some("--json"));
    let names = ["lines", "jobs", "added", "completed", "before.completed"];
    assert_eq!(summary(&again, &names), [12, 12, 0, 0, 12]);
    assert_eq!(place.read("done.txt").lines().count(), 12);
    assert_eq!(place.jobs().len(), 12);
}

#[test]
fn equal_lines_are_different_jobs() {
    let place = Place::new();
    let line = "{\"task\":\"same\",\"payload\":1}\n";
    place.write("jobs.jsonl", line.repeat(3));
    place.ok(&["run", "jobs.jsonl", "--exec", "cat >> done.txt"]);
    assert_eq!(place.read("done.txt"), "1\n1\n1\n");
    // A longer file is only worked off for what is new in it.
    place.write("jobs.jsonl", line.repeat(5));
    let args = ["run", "jobs.jsonl", "--exec", "cat >> done.txt", "--json"];
    let answer = place.ok(&args);
    assert_eq!(summary(&answer, &["jobs", "added"]), [5, 2]);
    assert_eq!(place.read("done.txt").lines().count(), 5);
}

#[test]
fn lines_of_one_queue_run_one_at_a_time() {
    let place = Place::new();
    let lines = (0..9).map(|n| format!("{{\"task\":\"a\",\"payload\":{n},\"queue\":\"q\"}}\n"));
    place.write("jobs.jsonl", lines.collect::<String>());
    // Whoever finds the directory there was not alone.
    let exec = "mkdir alone && cat >> done.txt && rmdir alone";
    let args = ["run", "jobs.jsonl", "--exec", exec, "-j", "4"];
    place.ok(&[&args[..], &["--max-attempts", "1"]].concat());
    assert_eq!(place.read("done.txt"), "0\n1\n2\n3\n4\n5\n6\n7\n8\n");
}

#[test]
fn a_line_with_a_key_is_the_job_of_that_key() {
    let place = Place::new();
    let input = r#"{"task":"a","payload":1,"key":"k"}
{"task":"a","payload":1,"key":"k"}
{"task":"a","payload":2,"key":"k"}
"#;
    let args = ["run", "-", "--exec", "cat >> done.txt", "--json"];
    let answer = place.fed(&args, input);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let names = ["lines", "jobs", "duplicates", "completed"];
    assert_eq!(summary(&answer, &names), [3, 1, 2, 1]);
    assert_eq!(place.read("done.txt"), "1\n");
    assert!(
        answer.err.contains("-:3: its key \"k\"") && answer.err.contains("left out"),
        "{answer:?}"
    );
    assert_eq!(place.job("a")["key"], "k");
}

#[test]
fn the_command_gets_payload_and_environment_and_its_output_is_kept() {
    let place = Place::new();
    place.write(
        "jobs.jsonl",
        r#"{"task":"talk","payload":{"to": "ada", "n": [1,2]}}"#,
    );
    let exec = r#"cat; echo "$KVJOB_ID $KVJOB_TASK $KVJOB_ATTEMPT"; echo careful >&2"#;
    place.ok(&["run", "jobs.jsonl", "--exec", exec]);
    let shown = place.shown("talk");
    let id = shown["job"]["id"].as_str().unwrap();
    let said = format!("{{\"to\": \"ada\", \"n\": [1,2]}}\n{id} talk 1");
    let logs: Vec<(&str, &str)> = shown["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap();
            (text("level"), text("message"))
        })
        .collect();
    assert_eq!(logs, [("info", said.as_str()), ("warn", "careful")]);
    let plain = place.ok(&["show", id]).out;
    assert!(
        plain.contains("careful") && plain.contains("completed"),
        "{plain}"
    );
}

#[test]
fn a_command_need_not_read_its_input() {
    let place = Place::new();
    let large = "x".repeat(500_000);
    place.write(
        "jobs.jsonl",
        format!("{{\"task\":\"a\",\"payload\":\"{large}\"}}\n").repeat(4),
    );
    place.ok(&["run", "jobs.jsonl", "--exec", "exec <&-; true"]);
}

#[test]
fn output_is_cut_and_says_so() {
    let place = Place::new();
    place.write("jobs.jsonl", r#"{"task":"chatty","payload":0}"#);
    let exec = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end; echo why >&2";
    place.ok(&["run", "jobs.jsonl", "--exec", exec]);
    let shown = place.shown("chatty");
    let said = shown["logs"][0]["message"].as_str().unwrap();
    assert!(
        said.starts_with("[cut: the last of 1000009 bytes]\n"),
        "{}",
        &said[..80]
    );
    assert!(said.ends_with("x\nthe end"));
    assert!((65_000..66_000).contains(&said.len()), "{}", said.len());
    assert_eq!(shown["logs"][1]["message"], "why");
}

#[test]
fn failed_attempts_are_made_again_and_what_fails_for_good_is_told() {
    let place = Place::new();
    let input = r#"{"task":"fine","payload":0}
{"task":"flaky","payload":0}
{"task":"broken","payload":0}
{"task":"fragile","payload":0,"max_attempts":1}
"#;
    let exec = r#"
        case $KVJOB_TASK-$KVJOB_ATTEMPT in
        flaky-1) echo busy >&2; exit 75 ;;
        broken-*) echo first >&2; echo "no such user" >&2; exit 65 ;;
        fragile-*) kill -9 $$ ;;
        esac"#;
    let args = ["run", "-", "--exec", exec, "--backoff", "10ms", "--json"];
    let answer = place.fed(&args, input);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let names = ["completed", "failed", "retried", "open"];
    assert_eq!(summary(&answer, &names), [2, 2, 2, 0]);

    let flaky = place.shown("flaky");
    let states: Vec<&str> = flaky["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states,
        ["created", "running", "scheduled", "running", "completed"]
    );
    assert_eq!(flaky["history"][2]["reason"], "exit status 75: busy");

    let broken = place.job("broken");
    assert_eq!(broken["attempts"], 3);
    assert_eq!(broken["last_error"], "exit status 65: no such user");
    let fragile = place.job("fragile");
    assert_eq!(fragile["attempts"], 1);
    assert_eq!(fragile["last_error"], "killed by signal 9 (SIGKILL)");

    // In plain words: which ones, why, and how to look further.
    let plain = place.fed(&["run", "-", "--exec", exec], input);
    assert_eq!(plain.code, Some(1));
    let (id, out) = (broken["id"].as_str().unwrap(), &plain.out);
    assert!(out.contains("2 completed before, 2 failed before"), "{out}");
    assert!(out.contains(id) && out.contains("no such user"), "{out}");
    assert!(
        out.contains("kvjob show ID") && out.contains("kvjob retry"),
        "{out}"
    );

    // And as it says, they can be tried again.
    place.ok(&["retry", "--state", "failed"]);
    let args = ["run", "-", "--exec", "true", "--json"];
    let answer = place.fed(&args, input);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(summary(&answer, &["completed", "before.completed"]), [2, 2]);
}

#[test]
fn an_attempt_that_takes_too_long_is_killed_with_all_its_children() {
    let place = Place::new();
    place.write(
        "jobs.jsonl",
        r#"{"task":"slow","payload":0,"max_attempts":1}"#,
    );
    // A child that will not listen, and a grandchild.
    let exec = r#"
        (trap "" TERM; echo $(sh -c 'echo $PPID') >> pids; while :; do sleep 1; done) &
        sh -c 'echo $$ >> pids; sleep 600; true' &
        echo $$ >> pids
        echo waiting
        wait"#;
    let args = ["run", "jobs.jsonl", "--exec", exec, "--timeout", "300ms"];
    let answer = place.kvjob(&args);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let shown = place.shown("slow");
    assert_eq!(shown["job"]["state"], "timed_out");
    let error = shown["job"]["last_error"].as_str().unwrap();
    assert!(error.contains("timed out after 300ms"), "{error}");
    assert_eq!(shown["logs"][0]["message"], "waiting");
    let pids = place.read("pids");
    assert_eq!(pids.lines().count(), 3, "{pids}");
    for pid in pids.lines() {
        wait_for("the end of a child", || (!is_alive(pid)).then_some(()));
    }
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let place = Place::new();
    place.write("jobs.jsonl", r#"{"task":"a","payload":0}"#);
    let exec = "sleep 600 & echo $! > pid; echo done";
    let answer = place.ok(&["run", "jobs.jsonl", "--exec", exec]);
    assert!(answer.out.contains("1 completed"), "{answer:?}");
    let pid = place.read("pid");
    wait_for("its end", || (!is_alive(pid.trim())).then_some(()));
    assert_eq!(place.shown("a")["logs"][0]["message"], "done");
}

#[test]
fn a_wrong_line_is_told_where_and_why_and_the_rest_runs() {
    let place = Place::new();
    let large = "x".repeat((1 << 20) + 1);
    let long_name = "t".repeat(129);
    let text = format!(
        r#"{{"task":"fine","payload":1}}
{{"task":"a","payload":}}

{{"task":"a","payload":1,"prio":3}}
{{"task":"large","payload":"{large}"}}
{{"payload":1}}
{{"task":"{long_name}","payload":1}}
not JSON at all
{{"task":"fine","payload":2}}
"#
    );
    place.write("jobs.jsonl", text);
    let answer = place.kvjob(&["run", "jobs.jsonl", "--exec", "cat >> done.txt"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let told: Vec<&str> = answer.err.lines().collect();
    let expected = [
        ("kvjob: jobs.jsonl:2:23: ", "expected value"),
        ("kvjob: jobs.jsonl:4:30: ", "unknown field `prio`"),
        ("kvjob: jobs.jsonl:6:13: ", "missing field `task`"),
        ("kvjob: jobs.jsonl:8:2: ", "expected ident"),
        ("kvjob: jobs.jsonl:5: ", "over the limit of 1048576"),
        ("kvjob: jobs.jsonl:7: ", "over the limit of 128"),
    ];
    for (place, what) in expected {
        let line = told.iter().find(|line| line.starts_with(place));
        let line = line.unwrap_or_else(|| panic!("{place} {what}: {told:#?}"));
        assert!(line.contains(what) && line.len() < 400, "{line}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    assert_eq!(place.read("done.txt").lines().count(), 2);
    assert!(
        answer.out.contains("6 lines wrong and left out"),
        "{answer:?}"
    );
}

#[test]
fn jobs_are_worked_on_while_the_file_is_still_being_written() {
    use std::io::Write as _;
    let place = Place::new();
    let mut command = place.command(&["run", "-", "--exec", "cat >> done.txt"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for number in 1..=3 {
        writeln!(stdin, "{{\"task\":\"a\",\"payload\":{number}}}").unwrap();
        wait_for("the job", || {
            (place.read("done.txt").lines().count() == number).then_some(())
        });
    }
    drop(stdin);
    assert_eq!(Answer::from(child).code, Some(0));
}

#[test]
fn priorities_and_times_are_kept() {
    let place = Place::new();
    let input = r#"{"task":"late","payload":"late","run_at":"2999-01-01T00:00:00Z"}
{"task":"b","payload":"second"}
{"task":"c","payload":"third","priority":5}
{"task":"a","payload":"first","priority":-5}
"#;
    place.write("jobs.jsonl", input);
    // The one that is far away keeps it waiting, so it is canceled when the others are done.
    let args = ["run", "jobs.jsonl", "-j", "1", "--exec", "cat >> done.txt"];
    let child = place.command(&args).spawn().unwrap();
    wait_for("three jobs", || {
        (place.read("done.txt").lines().count() == 3).then_some(())
    });
    signal(child.id(), "INT");
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(130), "{answer:?}");
    assert!(
        answer.out.contains("3 completed, 0 failed, 1 not done"),
        "{answer:?}"
    );
    let done = place.read("done.txt");
    assert_eq!(done, "\"first\"\n\"second\"\n\"third\"\n");
    assert_eq!(place.job("late")["state"], "scheduled");
    place.ok(&["cancel", "--task", "late"]);
    let answer = place.kvjob(&[&args[..], &["--json"]].concat());
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let names = ["before.completed", "before.canceled"];
    assert_eq!(summary(&answer, &names), [3, 1]);
}

#[test]
fn jobs_of_others_run_too_and_are_not_counted_as_ours() {
    let place = Place::new();
    place.ok(&["enqueue", "other", "7", "--priority", "-1"]);
    place.write("jobs.jsonl", twelve());
    let args = ["run", "jobs.jsonl", "--exec", "true", "-j", "1", "--json"];
    let answer = place.ok(&args);
    assert_eq!(
        summary(&answer, &["jobs", "completed", "others"]),
        [12, 12, 1]
    );
    assert_eq!(place.job("other")["state"], "completed");
}

/// Starts a run whose jobs wait until there is a file `go`.
fn waiting(place: &Place) -> std::process::Child {
    place.write("jobs.jsonl", twelve());
    let exec = "echo $$ >> started; while [ ! -e go ]; do sleep 0.01; done; cat >> done.txt";
    let child = place
        .command(&["run", "jobs.jsonl", "-j", "2", "--json", "--exec", exec])
        .spawn()
        .unwrap();
    wait_for("two jobs", || {
        (place.read("started").lines().count() == 2).then_some(())
    });
    child
}

#[test]
fn one_signal_finishes_what_runs_and_stops() {
    for name in ["INT", "TERM"] {
        let place = Place::new();
        let mut child = waiting(&place);
        signal(child.id(), name);
        let mut err = child.stderr.take().unwrap();
        // It says so before what runs has ended.
        let mut told = [0; 16];
        std::io::Read::read_exact(&mut err, &mut told).unwrap();
        assert_eq!(&told, b"kvjob: stopping:");
        fs::write(place.path("go"), "").unwrap();
        let answer = Answer::from(child);
        assert_eq!(answer.code, Some(130), "{answer:?}");
        let names = ["completed", "open", "failed"];
        assert_eq!(summary(&answer, &names), [2, 10, 0]);
        assert_eq!(answer.json()["stopped"], true);
        assert_eq!(place.read("done.txt").lines().count(), 2);

        let args = ["run", "jobs.jsonl", "--exec", "cat >> done.txt", "--json"];
        let rest = place.ok(&args);
        let names = ["added", "completed", "before.completed"];
        assert_eq!(summary(&rest, &names), [0, 10, 2]);
        assert_eq!(place.read("done.txt").lines().count(), 12);
    }
}

#[test]
fn two_signals_give_back_what_runs_and_leave_at_once() {
    let place = Place::new();
    let child = waiting(&place);
    signal(child.id(), "INT");
    signal(child.id(), "TERM");
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(130), "{answer:?}");
    assert!(answer.err.contains("given back"), "{answer:?}");
    assert_eq!(summary(&answer, &["completed", "open"]), [0, 12]);
    for pid in place.read("started").lines() {
        wait_for("the end of a command", || (!is_alive(pid)).then_some(()));
    }
    for job in place.jobs() {
        assert_eq!(job["state"], "ready", "{job}");
        assert_eq!(
            job["attempts"], 0,
            "an attempt that was given back is not counted"
        );
    }
}

#[test]
fn a_kvjob_that_is_killed_takes_its_commands_with_it() {
    let place = Place::new();
    let child = waiting(&place);
    signal(child.id(), "KILL");
    assert_eq!(Answer::from(child).code, None);
    for pid in place.read("started").lines() {
        wait_for("the end of a command", || (!is_alive(pid)).then_some(()));
    }
}

#[test]
fn a_file_without_jobs_is_done_at_once() {
    let place = Place::new();
    place.write("jobs.jsonl", "\n  \n");
    let answer = place.ok(&["run", "jobs.jsonl", "--exec", "false"]);
    assert!(answer.out.starts_with("0 jobs"), "{answer:?}");
}

#[test]
fn the_summary_in_json_adds_up() {
    let place = Place::new();
    let text = twelve() + "{\n" + "{\"task\":\"bad\",\"payload\":0,\"max_attempts\":1}\n";
    let exec = "[ $KVJOB_TASK != bad ]";
    let answer = place.fed(&["run", "-", "--exec", exec, "--json"], &text);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let summary = answer.json();
    let expected = json!({
        "lines": 14, "bad_lines": 1, "duplicates": 0, "jobs": 13, "added": 13,
        "completed": 12, "failed": 1, "canceled": 0, "lost": 0, "open": 0,
        "retried": 0, "others": 0, "stopped": false,
        "before": {"completed": 0, "failed": 0, "canceled": 0, "lost": 0},
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&summary[name], value, "{name}");
    }
    assert!(summary["jobs_per_second"].as_f64().unwrap() > 0.0);
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    let failed: &Value = &summary["not_completed"][0];
    assert_eq!(failed["task"], "bad");
    assert_eq!(failed["state"], "failed");
    assert_eq!(failed["error"], "exit status 1");
}
