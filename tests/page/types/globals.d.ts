/** uPlot is loaded before the modules, as a global. */
declare const uPlot: any;
