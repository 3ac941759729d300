//! Screens as text, and what keys ask for.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use devrun_model::feed::Status;
use devrun_model::{Health, Kind, ServiceStatus, Snapshot, State};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::state::{LogRow, Pane, ServiceUsage};
use super::{Dashboard, DashboardRequest, draw, handle_key, handle_mouse};

fn service(name: &str, tier: u32, state: State, health: Health) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        service: name.to_owned(),
        replica: 1,
        kind: Kind::Service,
        tier,
        state,
        health,
        pid: state.is_live().then_some(10),
        exit_code: None,
        signal: None,
        restarts: 0,
        started_at: None,
        ready_at: None,
        uptime_ms: None,
        ready_ms: None,
        ports: BTreeMap::new(),
        url: None,
        binary: None,
        version: None,
        reason: None,
    }
}

fn row(service: &str, text: &str) -> LogRow {
    LogRow { service: service.to_owned(), time: "14:05:30".to_owned(), text: text.to_owned(), ..LogRow::default() }
}

fn dashboard(width: u16, height: u16) -> Dashboard {
    let mut worker = service("worker", 2, State::BackingOff, Health::None);
    worker.restarts = 3;
    worker.reason = Some("exited with code 1; starts again in 2.0s".to_owned());
    let mut db = service("db", 1, State::Running, Health::Healthy);
    db.url = Some("postgres://app@127.0.0.1:5432/app".to_owned());
    let snapshot = Snapshot {
        project: "shop".to_owned(),
        instance: String::new(),
        mode: Some("dev".to_owned()),
        supervisor_pid: Some(1),
        supervisor_version: None,
        services: vec![
            db,
            service("日本語サービス", 1, State::Running, Health::Unhealthy),
            service("api", 2, State::Failed, Health::None),
            worker,
        ],
    };
    let status = Status { snapshot, waiting: BTreeMap::new(), settled: None, stopping: false, age_ms: 1 };
    let mut dashboard = Dashboard::new(status, true);
    dashboard.size = (width, height);
    dashboard.usage.insert("db".to_owned(), ServiceUsage { cpu: Some(3.2), memory: 48 << 20 });
    dashboard.rows = vec![
        row("db", "ready to accept connections"),
        row("api", "Traceback (most recent call last):"),
        LogRow { is_stderr: true, ..row("api", "ValueError: <script>alert(1)</script> \u{1b}]0;x") },
        LogRow { is_note: true, ..row("worker", "restarts: exited with code 1") },
        row("日本語サービス", "日本語のログ行"),
    ];
    dashboard
}

fn screen(dashboard: &Dashboard) -> String {
    let (width, height) = dashboard.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(dashboard, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().to_string()
}

fn press(dashboard: &mut Dashboard, code: KeyCode) -> Option<DashboardRequest> {
    handle_key(dashboard, KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_text(dashboard: &mut Dashboard, text: &str) {
    for char in text.chars() {
        press(dashboard, KeyCode::Char(char));
    }
}

#[test]
fn screens_of_every_size() {
    for (width, height) in [(120, 14), (80, 12), (40, 10), (20, 5)] {
        insta::assert_snapshot!(format!("dashboard_{width}x{height}"), screen(&dashboard(width, height)));
    }
    // Nothing to draw on is not a reason to fail.
    for (width, height) in [(1, 1), (2, 2), (3, 9), (300, 80), (300, 1)] {
        let mut small = dashboard(width, height);
        screen(&small);
        small.show_text("keys", vec!["x".to_owned(); 100]);
        screen(&small);
    }
}

#[test]
fn screens_of_one_service_a_prompt_and_the_help() {
    let mut one = dashboard(100, 10);
    press(&mut one, KeyCode::Down);
    press(&mut one, KeyCode::Char('/'));
    type_text(&mut one, "err|warn");
    insta::assert_snapshot!("dashboard_prompt", screen(&one));
    press(&mut one, KeyCode::Esc);
    press(&mut one, KeyCode::Char('?'));
    insta::assert_snapshot!("dashboard_help", screen(&one));
    // The arrows scroll what is open and leave the selection alone.
    press(&mut one, KeyCode::Down);
    assert!(one.selected == 1 && matches!(one.pane, Pane::Text { top: 1, .. }), "{:?}", one.pane);
    press(&mut one, KeyCode::Esc);
    assert_eq!(one.pane, Pane::Log);
    one.status.snapshot.supervisor_pid = None;
    assert!(screen(&one).contains("down: this is how it ended"));
}

#[test]
fn without_colour_no_cell_has_one() {
    let mut plain = dashboard(80, 12);
    plain.color = false;
    let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
    terminal.draw(|frame| draw(&plain, frame.area(), frame.buffer_mut())).unwrap();
    let cells = terminal.backend().buffer().content();
    assert!(cells.iter().all(|cell| cell.fg == ratatui::style::Color::Reset && cell.bg == ratatui::style::Color::Reset));
}

#[test]
fn no_control_character_reaches_a_cell() {
    let mut odd = dashboard(80, 12);
    odd.rows = vec![row("db", "a\u{1b}[2J\u{7}\u{9b}1mb\tc"), row("db", &"x".repeat(1 << 20))];
    let text = screen(&odd);
    assert!(text.contains("a[2J1mb c"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
}

#[test]
fn keys_ask_for_what_they_say() {
    let mut board = dashboard(120, 14);
    assert_eq!(press(&mut board, KeyCode::Char('w')), None);
    assert_eq!(board.message.as_deref(), Some("select a service first (↑ ↓)"));
    assert_eq!(press(&mut board, KeyCode::Down), Some(DashboardRequest::ShowLog));
    assert_eq!(board.selected_service().unwrap().name, "db");
    for (key, request) in [
        ('w', DashboardRequest::Why),
        ('i', DashboardRequest::Inspect),
        ('e', DashboardRequest::Events),
        ('d', DashboardRequest::Graph),
        ('t', DashboardRequest::Attach),
        ('s', DashboardRequest::Act("start")),
        ('x', DashboardRequest::Act("stop")),
        ('r', DashboardRequest::Act("restart")),
        ('g', DashboardRequest::Oldest),
        ('G', DashboardRequest::Newest),
        ('y', DashboardRequest::Copy("日本語のログ行".to_owned())),
        ('q', DashboardRequest::Quit),
    ] {
        assert_eq!(press(&mut board, KeyCode::Char(key)), Some(request), "{key}");
    }
    assert_eq!(press(&mut board, KeyCode::PageUp), Some(DashboardRequest::Scroll(-10)));
    assert_eq!(press(&mut board, KeyCode::Char('m')), Some(DashboardRequest::Mouse(false)));
    assert_eq!(press(&mut board, KeyCode::Char('Y')), None);
    board.report = vec!["api failed".to_owned(), "  exit 1".to_owned()];
    assert_eq!(press(&mut board, KeyCode::Char('Y')), Some(DashboardRequest::Copy("api failed\n  exit 1".to_owned())));
}

#[test]
fn prompts_search_filter_and_jump() {
    let mut board = dashboard(120, 14);
    press(&mut board, KeyCode::Char('n'));
    type_text(&mut board, "qtimeoutx");
    press(&mut board, KeyCode::Backspace);
    assert_eq!(press(&mut board, KeyCode::Enter), Some(DashboardRequest::Search { older: true }));
    assert_eq!(board.search.as_deref(), Some("qtimeout"));
    assert_eq!(press(&mut board, KeyCode::Char('N')), Some(DashboardRequest::Search { older: false }));
    press(&mut board, KeyCode::Char('f'));
    type_text(&mut board, "err");
    assert_eq!(press(&mut board, KeyCode::Enter), Some(DashboardRequest::Filter));
    assert_eq!(board.filter.as_deref(), Some("err"));
    press(&mut board, KeyCode::Char('@'));
    type_text(&mut board, "14:05");
    assert_eq!(press(&mut board, KeyCode::Enter), Some(DashboardRequest::JumpTo("14:05".to_owned())));
    assert_eq!(press(&mut board, KeyCode::Esc), Some(DashboardRequest::Filter));
    assert_eq!((board.filter, board.search), (None, None));
}

#[test]
fn a_drag_copies_log_text_only() {
    let mut board = dashboard(120, 14);
    let places = super::layout::places(ratatui::layout::Rect::new(0, 0, 120, 14), &board);
    let mouse = |kind, column, row| MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
    let text = places.text_column();
    let body = places.body.y;
    handle_mouse(&mut board, mouse(MouseEventKind::Down(MouseButton::Left), text + 11, body + 1));
    handle_mouse(&mut board, mouse(MouseEventKind::Drag(MouseButton::Left), text + 9, body + 2));
    let copied = handle_mouse(&mut board, mouse(MouseEventKind::Up(MouseButton::Left), text + 9, body + 2));
    assert_eq!(copied, Some(DashboardRequest::Copy("most recent call last):\nValueError".to_owned())));
    // A click on a service selects it.
    let clicked = handle_mouse(&mut board, mouse(MouseEventKind::Down(MouseButton::Left), 4, places.list.y + 3));
    assert_eq!(clicked, Some(DashboardRequest::ShowLog));
    assert_eq!(board.selected_service().unwrap().name, "api");
}

#[test]
fn a_new_state_keeps_the_selected_service() {
    let mut board = dashboard(80, 12);
    board.selected = 3;
    let mut status = board.status.clone();
    status.snapshot.services.remove(0);
    board.update(status.clone());
    assert_eq!(board.selected_service().unwrap().name, "api");
    status.snapshot.services.retain(|service| service.name != "api");
    board.update(status);
    assert_eq!(board.selected, 0);
}

#[test]
fn a_change_is_a_line_that_says_everything_once() {
    let change = |reason: Option<&str>, exit_code| devrun_model::StateChange {
        ts: "2026-03-01T09:30:15.000000Z".to_owned(),
        seq: 1,
        name: Some("api.2".to_owned()),
        service: "api".to_owned(),
        replica: 2,
        from: State::Running,
        to: State::Failed,
        health: Health::None,
        reason: reason.map(str::to_owned),
        help: None,
        pid: None,
        exit_code,
    };
    for (reason, exit_code, expected) in [
        (Some("exit 1"), Some(1), "running → failed  exit 1"),
        (Some("exit 1 before it became ready"), Some(1), "running → failed  exit 1  before it became ready"),
        (Some("killed by SIGKILL"), None, "running → failed  killed by SIGKILL"),
        (None, None, "running → failed"),
    ] {
        assert_eq!(
            super::state::event_line(&change(reason, exit_code), "10:30:15"),
            format!("10:30:15  api.2            {expected}")
        );
    }
}
