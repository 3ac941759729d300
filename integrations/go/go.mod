module devrun.dev/devruntest

go 1.21
