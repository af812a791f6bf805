//! The two kinds of charts: curves and bars. A picture is a row of them.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

/// A part of a picture.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The size of a chart, in pixels.
const SIZE: (u32, u32) = (480, 340);

/// Distinguishable without seeing red or green.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
    RGBColor(0, 158, 115),
];

/// Draws a picture of several charts beside and below each other.
pub(crate) fn picture(
    rows: usize,
    columns: usize,
    draw: impl FnOnce(&[Area<'_>]) -> Result<(), Box<dyn Error>>,
) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    let size = (
        SIZE.0 * u32::try_from(columns)?,
        SIZE.1 * u32::try_from(rows)?,
    );
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    draw(&root.split_evenly((rows, columns)))?;
    root.present()?;
    drop(root);
    Ok(svg)
}

/// A named line through points.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The labels of the axes.
pub(crate) struct Axes<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Whether the points are few and drawn, too.
    pub(crate) dots: bool,
}

/// Curves from 0, with a legend if there is more than one.
pub(crate) fn curves(
    area: &Area<'_>,
    axes: &Axes<'_>,
    curves: &[Curve],
) -> Result<(), Box<dyn Error>> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let right = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    if !(top > 0.0 && right > 0.0) {
        return Err(format!("nothing to draw for {:?}", axes.title).into());
    }
    // The legend needs room at the right.
    let room = if curves.len() > 1 { 1.4 } else { 1.03 };
    let mut chart = ChartBuilder::on(area)
        .caption(axes.title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right * room, 0.0..top * 1.05)?;
    let label = |value: &f64| {
        let digits = usize::from(value.fract().abs() > 1e-9);
        format!("{value:.digits$}")
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()?;
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
        let line = if axes.dots { line.point_size(3) } else { line };
        let stroke = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
        chart.draw_series(line)?.label(&curve.name).legend(stroke);
    }
    if curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    Ok(())
}

/// A bar to the right for each name, with its value after it.
pub(crate) fn bars(
    area: &Area<'_>,
    title: &str,
    unit: &str,
    bars: &[(String, f64)],
) -> Result<(), Box<dyn Error>> {
    let most = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    if most <= 0.0 {
        return Err(format!("nothing to draw for {title:?}").into());
    }
    let height = bars.len() as f64;
    // Downwards, and with room for the value after the longest.
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .build_cartesian_2d(0.0..most * 1.3, height..0.0)?;
    for (index, (name, value)) in bars.iter().enumerate() {
        let (colour, top) = (COLOURS[index % COLOURS.len()], index as f64);
        chart.draw_series([Rectangle::new(
            [(0.0, top + 0.4), (*value, top + 0.8)],
            colour.filled(),
        )])?;
        let text = |at, text: String| Text::new(text, at, ("sans-serif", 15));
        chart.draw_series([
            text((0.0, top + 0.18), name.clone()),
            text(
                (*value + most * 0.02, top + 0.52),
                format!("{value:.1} {unit}"),
            ),
        ])?;
    }
    Ok(())
}
