//! What becomes of foreign files: each test writes a small project and looks at the procfile's values and at the report.

mod example_stacks;
mod images_and_dockerfiles;
mod imports;
mod meaning;
mod shared_volumes;
mod variants;
