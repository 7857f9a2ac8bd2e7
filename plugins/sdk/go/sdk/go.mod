module wasmill.dev/sdk

go 1.24
