//! Rates as people write them: `10/s`, `100/min`, `1/5s`.

use kvjob::job::Rate;

use crate::duration;
use crate::output::lasting;

/// Reads a number of jobs and the time for which it is meant.
pub(crate) fn parse(text: &str) -> Result<Rate, String> {
    let examples = "such as 10/s, 100/min or 1/5s";
    let (jobs, per) = text
        .split_once('/')
        .ok_or_else(|| format!("it has no time: write a rate {examples}"))?;
    let jobs: u32 = jobs
        .trim()
        .parse()
        .map_err(|_| format!("{jobs:?} is no number of jobs: write a rate {examples}"))?;
    if jobs == 0 {
        return Err("it lets nothing go: `kvjob pause` does that".to_owned());
    }
    let per = per.trim();
    let one = per.starts_with(|c: char| c.is_alphabetic());
    let per = if one {
        format!("1{per}")
    } else {
        per.to_owned()
    };
    let per = duration::parse_positive(&per)?;
    Ok(Rate::new(jobs, per))
}

/// The same for people to read.
pub(crate) fn show(rate: &Rate) -> String {
    let Rate { jobs, per, burst } = rate;
    let per = match (per.as_secs(), per.subsec_nanos()) {
        (1, 0) => "s".to_owned(),
        (60, 0) => "min".to_owned(),
        (3600, 0) => "h".to_owned(),
        _ => lasting(*per),
    };
    match burst {
        1 => format!("{jobs}/{per}"),
        _ => format!("{jobs}/{per} (burst {burst})"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_has_a_number_and_a_time() {
        let second = Duration::from_secs(1);
        assert_eq!(parse("10/s"), Ok(Rate::new(10, second)));
        assert_eq!(parse("100/min"), Ok(Rate::new(100, 60 * second)));
        assert_eq!(parse("1/5s"), Ok(Rate::new(1, 5 * second)));
        assert_eq!(parse("3 / 1m30s"), Ok(Rate::new(3, 90 * second)));
        for text in ["10/s", "100/min", "1/h"] {
            assert_eq!(show(&parse(text).unwrap()), text);
        }
        assert_eq!(show(&Rate::new(1, second).burst(5)), "1/s (burst 5)");
    }

    #[test]
    fn what_is_no_rate_is_refused_with_examples() {
        for bad in ["", "10", "/s", "-1/s", "ten/s", "0/s", "1/0s", "1/5", "1/"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("10").unwrap_err().contains("10/s"));
    }
}
