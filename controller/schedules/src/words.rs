//! A cron expression in English words: the shapes that people use, by hand; the rest as the cron library says it.

use crate::cron::Cron;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Cron {
    /// When it is due, in a sentence: `every day at 02:30 (Europe/Berlin)`.
    #[must_use]
    pub fn words(&self) -> String {
        let said = say(self.expression()).unwrap_or_else(|| self.described());
        format!("{said} ({})", self.zone_name())
    }
}

fn say(expression: &str) -> Option<String> {
    let upper = expression.to_uppercase();
    let expression = match upper.as_str() {
        "@YEARLY" | "@ANNUALLY" => "0 0 1 1 *",
        "@MONTHLY" => "0 0 1 * *",
        "@WEEKLY" => "0 0 * * 0",
        "@DAILY" | "@MIDNIGHT" => "0 0 * * *",
        "@HOURLY" => "0 * * * *",
        other => other,
    };
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else { return None };
    let months = list(month, 12, |text| index(text, &MONTHS, 1))?;
    let months = months
        .map(|months| format!(" in {}", join(&months.iter().map(|m| MONTHS[m - 1].to_owned()).collect::<Vec<_>>())));
    let days = match (*day, list(weekday, 7, |text| index(text, &DAYS, 0))?) {
        ("*", None) => None,
        ("*", Some(days)) => Some(weekdays(&days)),
        (day, None) => Some(format!("on the {} of the month", ordinals(day)?)),
        // Either of the two: too odd for a short sentence.
        _ => return None,
    };
    let when = moments(minute, hour, days.is_none())?;
    let mut said = match (days, when) {
        (None, Moments::At(at)) => format!("every day at {at}"),
        (None, Moments::Every(every)) => every,
        (Some(days), Moments::At(at)) => format!("{days} at {at}"),
        (Some(days), Moments::Every(every)) => format!("{every}, {days}"),
    };
    said.push_str(&months.unwrap_or_default());
    Some(said)
}

enum Moments {
    /// At times of the day.
    At(String),
    /// Again and again.
    Every(String),
}

fn moments(minute: &str, hour: &str, every_day: bool) -> Option<Moments> {
    let number = |text: &str, below: u32| text.parse::<u32>().ok().filter(|value| *value < below);
    let step = |text: &str| text.strip_prefix("*/").and_then(|step| step.parse::<u32>().ok()).filter(|step| *step > 0);
    let past =
        |minute: u32| if minute == 0 { "on the hour".to_owned() } else { format!("{minute} minutes past the hour") };
    Some(match (minute, hour) {
        ("*", "*") => Moments::Every("every minute".to_owned()),
        (minute, "*") if step(minute).is_some() => Moments::Every(format!("every {} minutes", step(minute)?)),
        (minute, "*") => match number(minute, 60)? {
            0 => Moments::Every("every hour, on the hour".to_owned()),
            minute => Moments::Every(format!("every hour, {}", past(minute))),
        },
        (minute, hour) if step(hour).is_some() => {
            Moments::Every(format!("every {} hours, {}", step(hour)?, past(number(minute, 60)?)))
        }
        (minute, hour) => {
            let minute = number(minute, 60)?;
            let hours: Option<Vec<u32>> = hour.split(',').map(|hour| number(hour, 24)).collect();
            match (hours, every_day) {
                (Some(hours), _) => {
                    let times: Vec<String> = hours.iter().map(|hour| format!("{hour:02}:{minute:02}")).collect();
                    Moments::At(join(&times))
                }
                (None, _) => {
                    let (first, last) = hour.split_once('-')?;
                    let (first, last) = (number(first, 24)?, number(last, 24)?);
                    Moments::Every(format!("every hour from {first:02}:{minute:02} to {last:02}:{minute:02}"))
                }
            }
        }
    })
}

/// The values of a field of names or numbers, comma-separated or as one range; `Some(None)` for any.
fn list(field: &str, size: usize, read: impl Fn(&str) -> Option<usize>) -> Option<Option<Vec<usize>>> {
    if field == "*" || field == "?" {
        return Some(None);
    }
    let mut values = Vec::new();
    for part in field.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (read(first)?, read(last)?);
                values.extend(if first <= last { (first..=last).collect::<Vec<_>>() } else { return None });
            }
            None => values.push(read(part)?),
        }
    }
    let one_too_many = values.len() > size;
    (!values.is_empty() && !one_too_many).then_some(Some(values))
}

/// A name's (or its first three letters') or a number's place; names begin at `first`.
fn index(text: &str, names: &[&str], first: usize) -> Option<usize> {
    if let Ok(number) = text.parse::<usize>() {
        // Sunday is 0 and 7.
        let number = if first == 0 && number == 7 { 0 } else { number };
        return (first..first + names.len()).contains(&number).then_some(number);
    }
    names.iter().position(|name| name[..3].eq_ignore_ascii_case(text)).map(|at| at + first)
}

fn weekdays(days: &[usize]) -> String {
    let mut sorted = days.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    match sorted.as_slice() {
        [1, 2, 3, 4, 5] => "on weekdays (Monday to Friday)".to_owned(),
        [0, 6] => "at weekends (Saturday and Sunday)".to_owned(),
        all if all.len() == 7 => "on every day".to_owned(),
        _ => format!("on {}", join(&days.iter().map(|day| format!("{}s", DAYS[*day])).collect::<Vec<_>>())),
    }
}

fn ordinals(field: &str) -> Option<String> {
    if field == "L" {
        return Some("last day".to_owned());
    }
    let days: Option<Vec<String>> = field
        .split(',')
        .map(|day| {
            let day: u32 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
            let ending = match (day % 10, day % 100) {
                (_, 11..=13) => "th",
                (1, _) => "st",
                (2, _) => "nd",
                (3, _) => "rd",
                _ => "th",
            };
            Some(format!("{day}{ending}"))
        })
        .collect();
    days.map(|days| join(&days))
}

fn join(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_reads_as_people_say_it() {
        for (cron, said) in [
            ("30 2 * * *", "every day at 02:30"),
            ("0 7 * * MON-FRI", "on weekdays (Monday to Friday) at 07:00"),
            ("0 7 * * 1-5", "on weekdays (Monday to Friday) at 07:00"),
            ("0 4 * * sun", "on Sundays at 04:00"),
            ("0 4 * * 7", "on Sundays at 04:00"),
            ("0 8,20 * * TUE,THU", "on Tuesdays and Thursdays at 08:00 and 20:00"),
            ("*/15 * * * *", "every 15 minutes"),
            ("* * * * *", "every minute"),
            ("0 * * * *", "every hour, on the hour"),
            ("5 * * * *", "every hour, 5 minutes past the hour"),
            ("0 */6 * * *", "every 6 hours, on the hour"),
            ("0 9-17 * * MON-FRI", "every hour from 09:00 to 17:00, on weekdays (Monday to Friday)"),
            ("0 4 1 * *", "on the 1st of the month at 04:00"),
            ("0 4 1,15 * *", "on the 1st and 15th of the month at 04:00"),
            ("0 4 L * *", "on the last day of the month at 04:00"),
            ("0 0 1 1 *", "on the 1st of the month at 00:00 in January"),
            ("@daily", "every day at 00:00"),
            ("0 9 * * SAT,SUN", "at weekends (Saturday and Sunday) at 09:00"),
        ] {
            assert_eq!(Cron::parse(cron, "UTC").unwrap().words(), format!("{said} (UTC)"), "{cron}");
        }
    }

    #[test]
    fn odd_ones_are_described_all_the_same() {
        for cron in ["0 0 13 * FRI", "1-5/2 3 * * *", "0 9 * * MON#1", "7,9 1 * * *"] {
            let said = Cron::parse(cron, "UTC").unwrap().words();
            assert!(said.len() > 20 && said.ends_with(" (UTC)"), "{cron}: {said}");
        }
    }
}
