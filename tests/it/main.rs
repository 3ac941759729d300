mod process;

