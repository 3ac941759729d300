mod init;
mod recipes;
mod secrets;
