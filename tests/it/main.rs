mod config;
mod invalid;
