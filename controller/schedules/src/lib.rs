//! When things are due: cron in time zones, blackouts, missed occurrences.
