//! The server: what the protocol asks for, answered from the memory.

use crate::care::Watch;
use crate::desk::Seat;
use crate::failure::Failure;
use crate::graph_tools::{GRAPH, read_graph};
use crate::news::{GRAPH_URI, News};
use crate::shape::Shape;
use crate::tool::{Answer, Effect, Tool, Work};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest, CustomResult, ErrorCode,
    ErrorData, Implementation, ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
    ServerCapabilities, ServerConfig, SubscribeRequestParams, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;

/// Reading the resource is a call, too, under no name that a client could use.
static READ_RESOURCE: Tool = Tool {
    name: "resources/read",
    title: "",
    about: "",
    input: Shape::Any,
    output: GRAPH,
    effect: Effect::Reads,
    work: Work::Read(read_graph),
};

/// The form of the parameters of the methods that are answered here.
const PARAMETERS: &[(&str, &str)] = &[
    ("tools/call", "\"name\" is a string, \"arguments\" an object"),
    ("resources/read", "\"uri\" is a string"),
    ("resources/subscribe", "\"uri\" is a string"),
    ("resources/unsubscribe", "\"uri\" is a string"),
];

/// Answers one client.
pub(crate) struct Server {
    seat: Seat,
    tools: Vec<&'static Tool>,
    news: News,
    /// One of the places for sessions.
    #[expect(dead_code, reason = "it is held")]
    place: Option<OwnedSemaphorePermit>,
}

impl Server {
    /// A server for the client at this seat, which has these tools.
    pub(crate) fn new(
        seat: Seat,
        tools: Vec<&'static Tool>,
        news: News,
        place: Option<OwnedSemaphorePermit>,
    ) -> Server {
        Server { seat, tools, news, place }
    }

    /// The graph is a resource for those who see all of the memory.
    fn has_graph(&self) -> bool {
        self.seat.scope.is_whole()
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, Failure> {
        let tool = self.tools.iter().find(|tool| tool.name == request.name);
        let tool = *tool.ok_or_else(|| Failure::NoTool(request.name.to_string()))?;
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let (watch, told) = watch(context);
        let under_way = tool.changes_graph().then(|| self.news.begin(tool));
        let answer = self.seat.call(tool, arguments, watch).await?;
        // Nothing is said of the progress of a call that was answered.
        if let Some(told) = told {
            let _ = told.await;
        }
        if let Some(under_way) = under_way {
            self.news.changed(&context.peer, under_way).await;
        }
        Ok(answer)
    }
}

/// A watch over the call, and the task that tells the client of its progress if it asked for that.
fn watch(context: &RequestContext<RoleServer>) -> (Watch, Option<JoinHandle<()>>) {
    let cancelled = context.ct.clone();
    let is_cancelled = move || cancelled.is_cancelled();
    let Some(token) = context.meta.get_progress_token() else { return (Watch::new(is_cancelled, None), None) };
    let (sender, mut progress) = unbounded_channel();
    let client = context.peer.clone();
    let telling = tokio::spawn(async move {
        let mut last = None;
        while let Some((done, total)) = progress.recv().await {
            // A client may rely on it to rise.
            if last.is_some_and(|last| done <= last) {
                continue;
            }
            last = Some(done);
            #[expect(clippy::cast_precision_loss, reason = "it is shown")]
            let mut news = ProgressNotificationParam::new(token.clone(), done as f64);
            #[expect(clippy::cast_precision_loss, reason = "it is shown")]
            (news.total = (total > 0).then_some(total as f64));
            if client.notify_progress(news).await.is_err() {
                return;
            }
        }
    });
    (Watch::new(is_cancelled, Some(sender)), Some(telling))
}

/// A failed call, so that the assistant reads why.
fn failed(failure: &Failure) -> CallToolResult {
    if failure.is_of_the_call() {
        tracing::info!(%failure, "a call was refused");
    } else {
        tracing::warn!(%failure, "a call failed");
    }
    CallToolResult::error(vec![ContentBlock::text(failure.to_string())])
}

fn succeeded(answer: Answer) -> CallToolResult {
    let mut result = CallToolResult::default();
    result.content = vec![ContentBlock::text(answer.text)];
    result.structured_content = Some(answer.content);
    result
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let tools = ServerCapabilities::builder().enable_tools().enable_tool_list_changed();
        let capabilities = if self.has_graph() {
            tools.enable_resources().enable_resources_list_changed().enable_resources_subscribe().build()
        } else {
            tools.build()
        };
        let name = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities).with_server_info(name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.iter().map(|tool| tool.listed()).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let result = self.call(request, &context).await.map_or_else(|failure| failed(&failure), succeeded);
        Ok(result.into())
    }

    /// Unknown methods, and known ones with parameters of another form.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let Some((_, parameters)) = PARAMETERS.iter().find(|(method, _)| *method == request.method) else {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "Method not found", None));
        };
        let message = format!("the parameters of {} are not of its form: {parameters}", request.method);
        Err(ErrorData::invalid_params(message, None))
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let graph = Resource::new(GRAPH_URI, "knowledge-graph")
            .with_title("Knowledge Graph")
            .with_description("The full knowledge graph with all entities and relations")
            .with_mime_type("application/json");
        Ok(ListResourcesResult::with_all_items(if self.has_graph() { vec![graph] } else { Vec::new() }))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != GRAPH_URI || !self.has_graph() {
            let message = format!("MCP error -32602: Resource {} not found", request.uri);
            return Err(ErrorData::invalid_params(message, None));
        }
        let (watch, _) = watch(&context);
        let read = self.seat.call(&READ_RESOURCE, Value::Null, watch).await;
        let answer = read.map_err(|failure| ErrorData::internal_error(failure.to_string(), None))?;
        let contents = ResourceContents::text(answer.text, GRAPH_URI).with_mime_type("application/json");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if self.has_graph() {
            self.news.subscribe(&request.uri, &context.peer).await;
        }
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.news.unsubscribe(&request.uri);
        Ok(())
    }
}
