//! Telling people: webhooks, chat and mail, each delivery signed, retried and logged.
