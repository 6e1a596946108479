"""Changes to Gradio's own scripts that spare a browser work when it builds the page.

Each is one exact piece of the built script that is replaced by another one that gives the same.  If another version of
Gradio is built in another way, the piece is not found, the script is served as it is, and the page loads more slowly.
"""

from __future__ import annotations

import re

# For each component, the names of the events that a function listens to: every component looked through every target
# of every function.  Now the names are collected once for a list of functions.
EVENTS = (
    "find_attached_events(e,t){let n=t.filter(t=>t.targets.find(([t])=>t===e.id)).map(t=>{let n=t.targets.find("
    "([t])=>t===e.id);return n?n[1]:null}).filter(Boolean);return e.props.shared_props.attached_events=n,e}",
    "find_attached_events(e,t){if(this.listened!==t||this.listeners!==t.length){let n=new Map;for(let e of t){"
    "let t=new Set;for(let[r,i]of e.targets)t.has(r)||(t.add(r),i&&(n.has(r)?n.get(r).push(i):n.set(r,[i])))}"
    "this.listened=t,this.listeners=t.length,this.events_of=n}"
    "return e.props.shared_props.attached_events=[...this.events_of.get(e.id)||[]],e}",
)
# The page is built when it is made; this builds it again whenever Gradio's developers' mode has reloaded it, and did so
# once at the start, when nothing has changed yet.
BUILT_TWICE = ("le(()=>{v(),oe(()=>{O.reload(", "le(()=>{v()&&oe(()=>{O.reload(")

# Before a function's first call, each component that it listens to was asked for its state, to be changed by what the
# event sets; most set nothing.
NOTHING_SET = (
    "async set_event_args(e,t){let n={},r=",
    "async set_event_args(e,t){if(Object.keys(t).length===0)return()=>{};let n={},r=",
)
# Each change of a component looked for it in the whole tree, several times.  Now it is remembered with the components
# that hold it, and found again only if one of them no longer does: when Gradio renders a part of the page once more.
SEARCH = (
    "function Z(e,t){if(e.id===t)return e;if(e.children)for(let n of e.children){let e=Z(n,t);if(e)return e}"
    "return null}",
    "var nodes_of=new WeakMap;function Z(e,t){let n=nodes_of.get(e),r=n?.get(t);"
    "for(let e=r;e?.[1];e=e[1])if(!e[1][0].children?.includes(e[0])){r=null;break}"
    "if(!r){let i=n=new Map;(function e(t,n){let r=[t,n];i.has(t.id)||i.set(t.id,r);"
    "if(t.children)for(let n of t.children)e(n,r)})(e,null),nodes_of.set(e,n),r=n.get(t)}"
    "return r?r[0]:null}",
)

# Each rule of the page's style sheet was written out three times over; now once.
STYLES = (
    "let t=a[e],n=t.cssText.includes(`.dark`);if(t instanceof CSSStyleRule){let e=t.selectorText;if(e){"
    "let r=e.replace(`.dark`,``).split(`,`).map(e=>`${n?`.dark`:``} ${s} ${e.trim()} `).join(`,`);"
    "o+=t.cssText,o+=t.cssText.replace(e,r)}}",
    "let t=a[e],c=t.cssText,n=c.includes(`.dark`);if(t instanceof CSSStyleRule){let e=t.selectorText;if(e){"
    "let r=e.replace(`.dark`,``).split(`,`).map(e=>`${n?`.dark`:``} ${s} ${e.trim()} `).join(`,`);"
    "o+=c,o+=c.replace(e,r)}}",
)

# Pattern of a script's name -> its pieces.
CHANGES = {r"core-[\w-]{8}\.js": (EVENTS, SEARCH, STYLES), r"Blocks-[\w-]{8}\.js": (BUILT_TWICE, NOTHING_SET)}


def faster(path: str, script: bytes) -> bytes:
    """A script as it is served; ``path`` is that of its address."""
    name = path.rpartition("/")[2]
    for pattern, pieces in CHANGES.items():
        if re.fullmatch(pattern, name):
            for old, new in pieces:
                if script.count(old.encode()) == 1:
                    script = script.replace(old.encode(), new.encode())
    return script
