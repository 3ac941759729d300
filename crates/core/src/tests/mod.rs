//! Tests of the project as a whole: a builder for plans, a stage that feeds events and writes down what comes out, the
//! scenarios, and the table over every phase and event.

mod copies;
mod on_demand;
mod restarts;
mod scenario;
mod start_end;
mod start_first;
mod starts;
mod stops;
mod table;
