//! Gateway starts and storage nodes.

use domain::{NodeId, TimestampMs};
use objects::layout::NodeSlot;
use objects::metadata::{MetadataError, NodeRow};

use crate::connection::{Connection, Row, Work, args, locked};

pub(crate) async fn start_epoch(c: &mut Connection, now: TimestampMs) -> Work<u64> {
    let sql = "INSERT INTO gateway_starts (epoch, started_ms) \
               SELECT CASE WHEN COALESCE(MAX(epoch), 0) >= $1 THEN MAX(epoch) + 1 ELSE $1 END, $1 \
               FROM gateway_starts RETURNING epoch";
    let epoch = c.insert(sql, args![now]).await?;
    u64::try_from(epoch).map_err(|error| crate::connection::damaged("epoch", error))
}

pub(crate) async fn epochs(c: &mut Connection) -> Work<Vec<u64>> {
    c.rows("SELECT epoch FROM gateway_starts ORDER BY epoch", args![])
        .await?
        .iter()
        .map(|row| row.number(0))
        .collect()
}

pub(crate) async fn register(
    c: &mut Connection,
    id: NodeId,
    zone: &str,
    address: &str,
    weight: u32,
) -> Work<NodeSlot> {
    let known = c
        .row(
            locked!("SELECT slot, zone, address, weight FROM nodes WHERE id = $1"),
            args![id],
        )
        .await?;
    let slot = if let Some(row) = known {
        let slot = row.int(0)?;
        if row.text(1)? != zone || row.text(2)? != address || row.int(3)? != i64::from(weight) {
            c.execute(
                "UPDATE nodes SET zone = $2, address = $3, weight = $4 WHERE slot = $1",
                args![slot, zone, address, weight],
            )
            .await?;
        }
        slot
    } else {
        let free = c
            .one("SELECT COALESCE(MAX(slot), -1) + 1 FROM nodes", args![])
            .await?
            .int(0)?;
        if u16::try_from(free).is_err() {
            let reason = "all 65,536 node slots are taken".to_owned();
            return Err(MetadataError::Unavailable(reason).into());
        }
        c.execute(
            "INSERT INTO nodes (slot, id, zone, address, weight) VALUES ($1, $2, $3, $4, $5)",
            args![free, id, zone, address, weight],
        )
        .await?;
        free
    };
    u16::try_from(slot)
        .map(NodeSlot)
        .map_err(|error| crate::connection::damaged("node slot", error))
}

pub(crate) async fn all(c: &mut Connection) -> Work<Vec<NodeRow>> {
    c.rows(
        "SELECT slot, id, zone, address, weight FROM nodes ORDER BY slot",
        args![],
    )
    .await?
    .iter()
    .map(node)
    .collect()
}

fn node(row: &Row) -> Work<NodeRow> {
    Ok(NodeRow {
        slot: NodeSlot(row.number(0)?),
        id: NodeId(row.array(1)?),
        zone: row.text(2)?,
        address: row.text(3)?,
        weight: row.number(4)?,
    })
}
