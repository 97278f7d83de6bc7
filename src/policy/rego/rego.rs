//! The Rego engine (regorus) behind a few C functions, `engine.h`. Pure: no file, no clock of ours, no state but a
//! policy that was parsed. Bounds on time and memory are the worker's (worker.c), because the engine's own do not hold for
//! parsing, recursion and built-in functions.

use regorus::{Engine, Value};
use std::os::raw::c_int;
use std::sync::{Arc, Mutex};

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
    rule: String,
    /// What query_reference_value() looks into: set before each evaluation, which is the only one at its time.
    references: Arc<Mutex<Value>>,
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

/// The rules that a query takes, the first that there is.
fn rules(query: u8) -> &'static [&'static str] {
    match query {
        0 => &["allow"],
        _ => &["trust_claims", "result"],
    }
}

/// The value of that name, or null: an attestation policy asks `x in query_reference_value("name")`.
fn add_references(engine: &mut Engine) -> Result<Arc<Mutex<Value>>, String> {
    let references = Arc::new(Mutex::new(Value::new_object()));
    let of_engine = references.clone();
    engine
        .add_extension(
            "query_reference_value".to_string(),
            1,
            Box::new(move |args: Vec<Value>| {
                let all = of_engine.lock().unwrap_or_else(|broken| broken.into_inner());
                Ok(match &all[&args[0]] {
                    Value::Undefined => Value::Null,
                    value => value.clone(),
                })
            }),
        )
        .map_err(|e| e.to_string())?;
    Ok(references)
}

/// Also finds what is found only when rules are put in order, such as a variable nobody binds.
fn compiles(engine: &Engine, rule: &str) -> Result<bool, String> {
    match engine.clone().compile_with_entrypoint(&rule.into()) {
        Ok(_) => Ok(true),
        Err(e) => {
            let e = e.to_string();
            if e.contains("not a valid rule path") {
                Ok(false)
            } else {
                Err(e)
            }
        }
    }
}

fn load(policy: &str, query: u8) -> Result<Rego, String> {
    let mut engine = Engine::new();
    let references = add_references(&mut engine)?;
    let package = engine
        .add_policy(NAME.to_string(), policy.to_string())
        .map_err(|e| e.to_string())?;
    if package != "data.policy" {
        return Err(format!("the package is {package}, not policy"));
    }
    engine.set_input(Value::new_object());
    for name in rules(query) {
        let rule = format!("data.policy.{name}");
        if compiles(&engine, &rule)? {
            return Ok(Rego { engine, rule, references });
        }
    }
    Err(format!("there is no rule {}", rules(query)[0]))
}

/// # Safety
/// `p` points to `len` bytes, `why` to one structure.
#[no_mangle]
pub unsafe extern "C" fn kbs_rego_load(p: *const u8, len: usize, query: u8, why: *mut Why) -> *mut Rego {
    let why = &mut *why;
    let policy = match text(p, len) {
        Ok(t) => t,
        Err(_) => {
            why.tell("the policy is not UTF-8");
            return std::ptr::null_mut();
        }
    };
    match load(policy, query) {
        Ok(rego) => Box::into_raw(Box::new(rego)),
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

fn evaluate(rego: &Rego, input: &str, data: &str) -> Result<Value, String> {
    let run = |engine: &mut Engine| {
        let data = Value::from_json_str(data)?;
        let references = match &data["reference"] {
            Value::Undefined => Value::new_object(),
            value => value.clone(),
        };
        *rego.references.lock().unwrap_or_else(|broken| broken.into_inner()) = references;
        engine.set_input_json(input)?;
        engine.add_data(data)?;
        engine.eval_rule(rego.rule.clone())
    };
    run(&mut rego.engine.clone()).map_err(|e| e.to_string())
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
    match evaluate(&*rego, input, data) {
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

/// The result as JSON, if it is an object.
fn object(value: Value) -> Result<String, String> {
    match value {
        Value::Object(_) => Ok(value.to_string()),
        Value::Undefined => Err("the result is undefined".to_string()),
        _ => Err("the result is not an object".to_string()),
    }
}

/// # Safety
/// As kbs_rego_allow(); `out` has room for `size` bytes, `ret_len` points to one number.
#[no_mangle]
pub unsafe extern "C" fn kbs_rego_trust(
    rego: *const Rego,
    input: *const u8,
    input_len: usize,
    data: *const u8,
    data_len: usize,
    out: *mut u8,
    size: usize,
    ret_len: *mut usize,
    why: *mut Why,
) -> c_int {
    let why = &mut *why;
    let (Ok(input), Ok(data)) = (text(input, input_len), text(data, data_len)) else {
        why.tell("input or data is not UTF-8");
        return ERROR;
    };
    match evaluate(&*rego, input, data).and_then(object) {
        Ok(json) if json.len() <= size => {
            std::ptr::copy_nonoverlapping(json.as_ptr(), out, json.len());
            *ret_len = json.len();
            ALLOW
        }
        Ok(_) => {
            why.tell("the result is too long");
            ERROR
        }
        Err(e) => {
            why.take(&e);
            ERROR
        }
    }
}
