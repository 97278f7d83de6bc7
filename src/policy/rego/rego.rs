//! The Rego engine (regorus) behind four C functions, `engine.h`. Pure: no file, no clock of ours, no state but a
//! policy that was parsed. Bounds on time and memory are the worker's (worker.c), because the engine's own do not hold for
//! parsing, recursion and built-in functions.

use regorus::{Engine, Value};
use std::os::raw::c_int;

/// `struct kbs_rego_why`: text for a person, cut to fit; where in the policy, or zeros.
#[repr(C)]
pub struct Why {
    line: u32,
    column: u32,
    len: usize,
    text: [u8; 256],
}

pub struct Rego {
    engine: Engine,
}

const ERROR: c_int = -1;
const DENY: c_int = 0;
const ALLOW: c_int = 1;

/// What the engine calls the policy in its messages: `--> policy:LINE:COLUMN`.
const NAME: &str = "policy";

impl Why {
    fn tell(&mut self, text: &str) {
        let mut n = 0;
        for c in text.chars() {
            let c = if c.is_ascii_graphic() || c == ' ' { c as u8 } else { b'?' };
            if n == self.text.len() {
                break;
            }
            self.text[n] = c;
            n += 1;
        }
        self.len = n;
    }

    /// The position from the first line of the engine's message, the reason from its `error:` line.
    fn take(&mut self, message: &str) {
        let reason = message
            .lines()
            .filter_map(|l| l.trim_start().strip_prefix("error: "))
            .next()
            .unwrap_or_else(|| message.lines().next().unwrap_or("unknown error"));
        if let Some(at) = message.find(&format!("{NAME}:")) {
            let mut numbers = message[at + NAME.len() + 1..].splitn(3, |c: char| !c.is_ascii_digit());
            self.line = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            self.column = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        }
        self.tell(reason);
    }
}

unsafe fn text<'a>(p: *const u8, len: usize) -> Result<&'a str, std::str::Utf8Error> {
    if len == 0 {
        return Ok("");
    }
    std::str::from_utf8(std::slice::from_raw_parts(p, len))
}

fn load(policy: &str) -> Result<Engine, String> {
    let mut engine = Engine::new();
    let package = engine
        .add_policy(NAME.to_string(), policy.to_string())
        .map_err(|e| e.to_string())?;
    if package != "data.policy" {
        return Err(format!("the package is {package}, not policy"));
    }
    // Also what is found only when rules are put in order, such as a variable nobody binds.
    engine.set_input(Value::new_object());
    engine.clone().compile_with_entrypoint(&"data.policy.allow".into()).map_err(|e| {
        let e = e.to_string();
        if e.contains("not a valid rule path") {
            "there is no rule allow".to_string()
        } else {
            e
        }
    })?;
    Ok(engine)
}

/// # Safety
/// `p` points to `len` bytes, `why` to one structure.
#[no_mangle]
pub unsafe extern "C" fn kbs_rego_load(p: *const u8, len: usize, why: *mut Why) -> *mut Rego {
    let why = &mut *why;
    let policy = match text(p, len) {
        Ok(t) => t,
        Err(_) => {
            why.tell("the policy is not UTF-8");
            return std::ptr::null_mut();
        }
    };
    match load(policy) {
        Ok(engine) => Box::into_raw(Box::new(Rego { engine })),
        Err(e) => {
            why.take(&e);
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// `rego` is NULL or came from kbs_rego_load() and is not used again.
#[no_mangle]
pub unsafe extern "C" fn kbs_rego_free(rego: *mut Rego) {
    if !rego.is_null() {
        drop(Box::from_raw(rego));
    }
}

fn allow(engine: &mut Engine, input: &str, data: &str) -> Result<Value, String> {
    let run = |engine: &mut Engine| {
        engine.set_input_json(input)?;
        engine.add_data_json(data)?;
        engine.eval_rule("data.policy.allow".to_string())
    };
    run(engine).map_err(|e| e.to_string())
}

/// # Safety
/// `rego` came from kbs_rego_load(); the texts are as long as said; `why` points to one structure.
#[no_mangle]
pub unsafe extern "C" fn kbs_rego_allow(
    rego: *const Rego,
    input: *const u8,
    input_len: usize,
    data: *const u8,
    data_len: usize,
    why: *mut Why,
) -> c_int {
    let why = &mut *why;
    let (Ok(input), Ok(data)) = (text(input, input_len), text(data, data_len)) else {
        why.tell("input or data is not UTF-8");
        return ERROR;
    };
    match allow(&mut (*rego).engine.clone(), input, data) {
        Ok(Value::Bool(true)) => ALLOW,
        Ok(Value::Bool(false)) => {
            why.tell("allow is false");
            DENY
        }
        Ok(Value::Undefined) => {
            why.tell("allow is undefined");
            DENY
        }
        Ok(_) => {
            why.tell("allow is not a boolean");
            DENY
        }
        Err(e) => {
            why.take(&e);
            ERROR
        }
    }
}
