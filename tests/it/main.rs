mod init;
mod secrets;
