//! Commands that look and change nothing.

pub mod analyze;
pub mod check;
pub mod config;
pub mod doctor;
pub mod env;
pub mod events;
pub mod graph;
pub mod inspect;
pub mod logs;
pub mod ls;
pub mod mcp;
pub mod ps;
pub mod report;
pub mod resources;
pub mod routes;
pub mod top;
pub mod ui;
pub mod urls;
pub mod web;
pub mod why;
