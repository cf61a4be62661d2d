//! Telling people: webhooks, chat and mail, each delivery signed, retried and logged.
//!
//! In the order in which a notification comes about: [`change`] says what a run that ended means, [`rule`] and
//! [`timing`] say who wants to know it and when, [`message`] and [`digest`] put it into words, [`destination`] gives it
//! the form that its channel speaks, [`courier`] carries it there past the [`address`] guard with a [`signature`], and
//! [`retry`] says when to try again. What is to be sent and what was is kept by whoever uses this: nothing here stores
//! anything.

pub mod address;
pub mod change;
pub mod courier;
pub mod destination;
pub mod digest;
mod mail;
pub mod message;
pub mod problem;
pub mod retry;
pub mod rule;
pub mod signature;
pub mod timing;
mod webhook;
