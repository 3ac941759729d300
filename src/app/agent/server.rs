//! The protocol: lists the tools and hands calls on.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, ServiceExt};

use devrun_model::{Failure, FailureKind, exit};
use devrun_runtime::trace_masks;

use super::call::AgentStack;
use super::tools::{TOOLS, ToolEffect, ToolSpec, schema};
use crate::app::observer::Observer;

struct Handler {
    stack: Arc<AgentStack>,
}

const INSTRUCTIONS: &str = "Supervises the services of this project. After a failed `up`, call `explain_failure`: it names the \
    cause, the last probe answer and the last log lines. Change the files of the project yourself, then call `up` again. `why` explains one service.";

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("devrun", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(TOOLS.iter().map(tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !TOOLS.iter().any(|tool| tool.name == request.name) {
            return Err(ErrorData::invalid_params(format!("unknown tool `{}`", request.name), None));
        }
        let arguments = serde_json::Value::Object(request.arguments.unwrap_or_default());
        let result = match self.stack.call(&request.name, arguments).await {
            Ok(value) => CallToolResult::success(vec![ContentBlock::text(value.to_string())]),
            Err(failure) => {
                let reason = trace_masks::masked(&failure.reason);
                let help = failure.help.map(|help| format!("\nhelp: {help}")).unwrap_or_default();
                CallToolResult::error(vec![ContentBlock::text(format!("{reason}{help}"))])
            }
        };
        Ok(result.into())
    }
}

fn tool(spec: &ToolSpec) -> Tool {
    let hints = ToolAnnotations::new()
        .read_only(spec.effect == ToolEffect::Reads)
        .destructive(spec.effect == ToolEffect::Destroys)
        .open_world(false);
    Tool::new(spec.name, spec.about, schema(spec)).with_annotations(hints)
}

/// Serves on standard input and output until the client hangs up.
///
/// # Errors
/// `Internal` when the client does not speak the protocol.
pub async fn serve(observer: Observer) -> Result<i32, Failure> {
    let handler = Handler { stack: Arc::new(AgentStack::new(observer)) };
    let running = match handler.serve(rmcp::transport::stdio()).await {
        Ok(running) => running,
        Err(error) => {
            return Err(Failure::new(
                FailureKind::Config,
                format!("the client does not speak the Model Context Protocol: {error}"),
            )
            .help("configure `devrun mcp` as a server of an agent; it does not work on a terminal"));
        }
    };
    running
        .waiting()
        .await
        .map(|_| exit::DONE)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the server ended: {error}")))
}
