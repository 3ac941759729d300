//! A scripted client of `devrun mcp`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, eventually};

/// A client of the Model Context Protocol over standard input and output.
pub struct McpClient {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    number: u64,
    /// How many tools were called.
    pub calls: usize,
}

impl McpClient {
    /// Of a server that was just started.
    pub fn start(mut child: Child) -> Self {
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("a pipe")));
        let mut client = Self { child, input, output, number: 0, calls: 0 };
        let hello = client.request(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } }),
        );
        assert_eq!(hello["serverInfo"]["name"], "devrun", "{hello:#}");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }
    fn send(&mut self, message: &Value) {
        writeln!(self.input.as_mut().expect("open"), "{message}").expect("it reads");
    }
    #[track_caller]
    pub fn answer(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let id = self.number;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("it writes") > 0, "{method}: it hung up");
            let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if answer["id"] == id {
                return answer;
            }
        }
    }
    #[track_caller]
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer["error"].is_null(), "{answer:#}");
        answer["result"].clone()
    }
    /// A tool's answer, and whether it is an error.
    #[track_caller]
    pub fn try_call(&mut self, tool: &str, arguments: Value) -> (Value, bool) {
        self.calls += 1;
        let result = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let text = result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (value, result["isError"] == true)
    }
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let (value, failed) = self.try_call(tool, arguments);
        assert!(!failed, "{tool}: {value:#}");
        value
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        // The server ends when its client hangs up.
        drop(self.input.take());
        let ended = eventually("the server's end", PATIENCE, || self.child.try_wait().expect("our own child"));
        if !std::thread::panicking() {
            assert!(ended.success(), "{ended:?}");
        }
    }
}
